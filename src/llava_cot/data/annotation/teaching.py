"""What a teacher is asked, and how its replies are read.

Owns the words of both requests, their hash, and when two answers are the same beyond doubt. Knows no model's
class and no store. The procedure is that of the appendix of arXiv 2411.10440, in words of our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from string import ascii_uppercase

from llava_cot.core.question import LoadedImage
from llava_cot.data.record import Turn
from llava_cot.models.base import Message, Prompt

_TASK = """\
Write a worked answer to the last question below, for training a model that sees the same and knows nothing
else. Write four parts in this order, each once, with exactly these tags and nothing outside of them:

<SUMMARY> One or two sentences: how the question will be approached. Nothing of the answer. </SUMMARY>
 <CAPTION> What is to be seen in the image that matters to the question (without an image: what the text
gives). </CAPTION>

<REASONING> The way from there to the answer, step by step. Every step must be true and follow from what is
seen or known. </REASONING>

<CONCLUSION> The answer. {form} </CONCLUSION>

You are given the standard answer{and_hints} so that what you write is right. The conclusion must mean the
same as the standard answer. Write as someone who works it out: never say or hint that an answer{or_hints} was
given."""

_FREE = "Brief where the question asks for something brief, thorough where it asks for detail."
_CHOICE = "The letter of the right option alone."

_JUDGE = """\
A question, its standard answer, and an answer that was given to it. Does the given answer mean the same as
the standard answer? Other words, another order or another form of the same value do not matter, and it may
say more as long as it contradicts nothing. An answer that refuses, or that answers nothing, does not mean the
same.

Question:
{question}

Standard answer:
{answer}

Given answer:
{given}

Reply with a short reason, then "Verdict: correct." or "Verdict: incorrect.\""""

_PAIRS = (("(", ")"), ("[", "]"), ("**", "**"), ('"', '"'), ("“", "”"), ("$", "$"))


def write_prompt(turn: Turn, earlier: Sequence[tuple[str, str]], images: Sequence[LoadedImage]) -> Prompt:
    """Asks for the four stages of a turn. `earlier` has question and response of the turns before it."""
    said: list[Message] = []
    for question, response in earlier:
        said += [Message("user", question), Message("assistant", response)]
    said.append(Message("user", _task(turn)))
    first = Message("user", said[0].text, tuple(images))
    return Prompt((first, *said[1:]))


def _task(turn: Turn) -> str:
    parts = [
        _TASK.format(
            form=_CHOICE if turn.options else _FREE,
            and_hints=" and hints" if turn.hints else "",
            or_hints=" or hints" if turn.hints else "",
        ),
        f"Question:\n{turn.text}",
        f"Standard answer:\n{_standard(turn)}",
    ]
    return "\n\n".join([*parts, f"Hints:\n{turn.hints}"] if turn.hints else parts)


def judge_prompt(turn: Turn, conclusion: str) -> Prompt:
    """Asks whether a conclusion means the same as the standard answer. By text alone."""
    return Prompt.of(_JUDGE.format(question=turn.text, answer=_standard(turn), given=conclusion))


def _standard(turn: Turn) -> str:
    """The standard answer, with the option's text where it is a letter."""
    option = _option(turn)
    return f"{turn.answer}" if option is None else f"{turn.answer}. {option}"


def _option(turn: Turn) -> str | None:
    """The text of the option that the standard answer names by its letter."""
    letters = ascii_uppercase[: len(turn.options)]
    if turn.answer is None or len(turn.answer) != 1 or turn.answer not in letters:
        return None
    return turn.options[letters.index(turn.answer)]


def prompts_hash() -> str:
    """A few characters that change whenever the wording does."""
    turn = Turn("QUESTION", "A", ("OPTION",), "HINTS")
    texts = (_task(turn), _task(Turn("QUESTION", "ANSWER")), judge_prompt(turn, "GIVEN").messages[0].text)
    return sha256("\0".join(texts).encode()).hexdigest()[:12]


def same(conclusion: str, turn: Turn) -> bool:
    """Whether a conclusion is the standard answer beyond doubt; if not, it may still mean the same."""
    if turn.answer is None:
        return False
    given, option = _plain(conclusion), _option(turn)
    if option is None:
        return given == _plain(turn.answer)
    forms = (turn.answer, f"{turn.answer})", *(f"{turn.answer}{mark} {_plain(option)}" for mark in ".:)"))
    return given.casefold() in {form.casefold() for form in forms}


def _plain(text: str) -> str:
    """Without what changes no meaning: white space, an end mark, brackets around it all, a capital at the
    start.

    Case is kept otherwise (genotypes, segments, units), and so are marks that belong to a value (.5, 5', -5).
    """
    words = " ".join(text.split())
    while True:
        shorter = words.removesuffix(".").strip()
        for opening, closing in _PAIRS:
            if shorter.startswith(opening) and shorter.endswith(closing) and len(shorter) > 2 * len(opening):
                inner = shorter[len(opening) : -len(closing)]
                if opening not in inner and closing not in inner:
                    shorter = inner.strip()
        if shorter == words:
            break
        words = shorter
    rest = words[1:]
    ordinary = rest.islower() and (len(words) > 2 or words.lower() == "no")
    return words[0].lower() + rest if words and ordinary else words
