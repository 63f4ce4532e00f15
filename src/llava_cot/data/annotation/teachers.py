"""Teachers, which write the four stages of a turn and judge a conclusion, and a model teacher's prompts.

The procedure is that of the appendix of arXiv 2411.10440, in words of our own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Protocol

from llava_cot.core.question import PLACE, LoadedImage
from llava_cot.data.record import Record, Turn, pictures_until
from llava_cot.errors import TeacherDeclined
from llava_cot.models.base import Finish, Message, Model, Prompt, Sampling

# The project's own defaults; not greedy, since a second attempt must be able to differ.
_WRITING = Sampling(temperature=0.6, top_p=0.9, max_tokens=2048)
_JUDGING = Sampling(temperature=0.0, top_p=1.0, max_tokens=512)

# The annotated turns before this one: question and response.
Earlier = Sequence[tuple[str, str]]
Images = Callable[[], Awaitable[tuple[LoadedImage, ...]]]


@dataclass(frozen=True)
class TeacherReply:
    """What a teacher wrote, and its cost. `usd` is None if there is no price."""

    text: str
    finish: Finish = "eos"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = None


class Teacher(Protocol):
    """Writes answers in stages and judges conclusions. A set is the work of one teacher and its settings."""

    name: str
    priced: bool  # whether the cost of its replies is known
    settings: dict[str, str]  # what its replies depend on

    async def write(
        self, record: Record, number: int, earlier: Earlier, images: Images, seed: int
    ) -> TeacherReply:
        """Write the four stages of turn `number`. Raises TeacherDeclined, ModelError and ImageError."""
        ...

    async def judge(self, record: Record, number: int, conclusion: str, seed: int) -> TeacherReply:
        """Judge whether a conclusion means the same as the standard answer. Raises like `write`."""
        ...


class ModelTeacher:
    """A model as teacher."""

    def __init__(self, model: Model) -> None:
        self.name = model.name
        self.priced = model.price(1, 1) is not None
        self.settings = {
            "teacher": model.name,
            "prompts": prompts_hash(),
            "sampling": f"temperature {_WRITING.temperature:g}, top-p {_WRITING.top_p:g}, "
            f"at most {_WRITING.max_tokens} tokens",
        }
        self._model = model

    async def write(
        self, record: Record, number: int, earlier: Earlier, images: Images, seed: int
    ) -> TeacherReply:
        shown = (await images())[: pictures_until(record, number)]
        return await self._sample(write_prompt(record.turns[number], earlier, shown), _WRITING, seed)

    async def judge(self, record: Record, number: int, conclusion: str, seed: int) -> TeacherReply:
        return await self._sample(judge_prompt(record.turns[number], conclusion), _JUDGING, seed)

    async def _sample(self, prompt: Prompt, how: Sampling, seed: int) -> TeacherReply:
        [one] = await self._model.sample(prompt, 1, replace(how, seed=seed))
        return TeacherReply(one.text, one.finish, one.prompt_tokens, one.completion_tokens, one.usd)


@contextmanager
def open_teacher(
    spec: str, model_name: str | None = None, at_once: int = 256, **options: Any
) -> Iterator[Teacher]:
    """Open a teacher: "scenes", or any model that `open_model` opens, for `at_once` questions at once.

    `options` are others of `open_model`. Raises ModelError.
    """
    if spec == "scenes":
        yield SceneTeacher()
        return
    from llava_cot.models.registry import open_model

    opened = open_model(spec, model_name=model_name, max_batch=at_once, in_flight=at_once, **options)
    with closing(opened):
        yield ModelTeacher(opened)


class SceneTeacher:
    """The program that makes the scenes. It knows a scene by the record's id, and is always right."""

    def __init__(self) -> None:
        self.name = "scenes"
        self.priced = False
        self.settings = {"teacher": "scenes"}

    async def write(
        self, record: Record, number: int, earlier: Earlier, images: Images, seed: int
    ) -> TeacherReply:
        from llava_cot.core.stages import render
        from llava_cot.scenes.items import named_item

        item = named_item(record.id)
        if item is None or len(record.turns) != 1:
            raise TeacherDeclined(
                "it is no scene: the id of one is SPLIT-SEED-INDEX or hard-SPLIT-SEED-INDEX"
            )
        turn = record.turns[0]
        if not item.has_question(turn.question, turn.options, turn.answer):
            raise TeacherDeclined(
                f"the scene {item.id} has another question or answer, from another version perhaps"
            )
        return TeacherReply(render(item.stages))

    async def judge(self, record: Record, number: int, conclusion: str, seed: int) -> TeacherReply:
        raise TeacherDeclined("the conclusion is not the scene's answer")


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
    """The prompt for the four stages of a turn; `earlier` has the questions and responses before it.

    The images are those that this turn and earlier ones show, at their places or before all.
    """
    messages: list[Message] = []
    for question, response in earlier:
        messages += [Message("user", question), Message("assistant", response)]
    messages.append(Message("user", _task(turn)))
    left, places = list(images), sum(message.text.count(PLACE) for message in messages)
    for number, message in enumerate(messages):
        count = message.text.count(PLACE) + (0 if number else max(0, len(left) - places))
        messages[number] = replace(message, images=tuple(left[:count]))
        left = left[count:]
    return Prompt(tuple(messages))


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
    """The prompt that asks whether a conclusion means the same as the standard answer, without images."""
    return Prompt.of(_JUDGE.format(question=turn.text, answer=_standard(turn), given=conclusion))


def _standard(turn: Turn) -> str:
    """The standard answer, with the option's text if it is a letter."""
    return f"{turn.answer}" if turn.answer_option is None else f"{turn.answer}. {turn.answer_option}"


def prompts_hash() -> str:
    """A few characters that change whenever the wording does."""
    turn = Turn("QUESTION", "A", ("OPTION",), "HINTS")
    texts = (_task(turn), _task(Turn("QUESTION", "ANSWER")), judge_prompt(turn, "GIVEN").messages[0].text)
    return sha256("\0".join(texts).encode()).hexdigest()[:12]


def same(conclusion: str, turn: Turn) -> bool:
    """Whether a conclusion certainly is the standard answer; if not, it may still mean the same."""
    if turn.answer is None:
        return False
    given, option = _plain(conclusion), turn.answer_option
    if option is None:
        return given == _plain(turn.answer)
    forms = (turn.answer, f"{turn.answer})", *(f"{turn.answer}{mark} {_plain(option)}" for mark in ".:)"))
    return given.casefold() in {form.casefold() for form in forms}


def _plain(text: str) -> str:
    """A text without what changes no meaning: white space, an end mark, brackets around it, a first capital.

    Other capitals stay (genotypes, segments, units), and so do marks that belong to a value (.5, 5', -5).
    """
    words = " ".join(text.split())
    while True:
        shorter = words.removesuffix(".").strip()
        for left, right in _PAIRS:
            if shorter.startswith(left) and shorter.endswith(right) and len(shorter) > 2 * len(left):
                inner = shorter[len(left) : -len(right)]
                if left not in inner and right not in inner:
                    shorter = inner.strip()
        if shorter == words:
            break
        words = shorter
    rest = words[1:]
    ordinary = rest.islower() and (len(words) > 2 or words.lower() == "no")
    return words[0].lower() + rest if words and ordinary else words
