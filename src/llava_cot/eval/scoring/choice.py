"""Multiple choice: which option an answer means.

Owns the extraction, which is that of VLMEvalKit (`can_infer` in `vlmeval/utils/matching_util.py` of
ms-vlmeval 0.0.20) on every text, its oddities included: a letter counts only among the last four words, "A"
as an article is the letter A, and an option's text counts as part of a word too. Where we differ:

- what matching does not settle, VLMEvalKit gives to its judge, or counts as wrong without one; after three
  replies that cannot be read it draws an option at random, and we leave it unsettled;
- the judge's prompt is in our own words, and in English for Chinese questions too.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from llava_cot.eval.items import Item, Metric, Score, Scored
from llava_cot.eval.scoring.counting import accuracy
from llava_cot.models.base import Prompt

NONE = "Z"  # no option at all: the letter of VLMEvalKit's judge, and of refusals
_LAST = 4  # a letter is an answer among so many last words
_SPACES = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_FAILED = "Failed to obtain answer via API"  # what VLMEvalKit writes for an answer when a model failed
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_TASK = """\
A multiple-choice question was answered in free words. Say which of its options the answer means: the one \
that comes closest to it in meaning. Reply with that option's letter alone, or with Z if the answer is far \
from all of them.

Question: Which animal is asleep?
Options:
A. the dog
B. the cat
C. the parrot
Answer: A tabby kitten sleeps on the sofa.
Letter: B

Question: Which animal is asleep?
Options:
A. the dog
B. the cat
C. the parrot
Answer: It is the tortoise.
Letter: Z
"""


def infer(text: str, options: Sequence[str]) -> str | None:
    """The letter of the option that a text names, by letter or by words; Z for none; None if unclear."""
    return _by_letter(text, ascii_uppercase[: len(options)]) or _by_words(text, options)


def _by_letter(text: str, letters: str) -> str | None:
    if _FAILED in text:
        return None
    if any(refusal in text for refusal in _REFUSALS):
        return NONE
    words = text.translate(_SPACES).split()
    named = [letter for letter in letters if letter in words]
    if not named:
        return NONE if NONE in words else None
    if len(named) > 1:
        return None
    return named[0] if words.index(named[0]) >= len(words) - _LAST else None


def _by_words(text: str, options: Sequence[str]) -> str | None:
    text = text.lower()
    if len(text) > 2 * sum(map(len, options)):  # so long a text mentions options without choosing one
        return None
    named = [
        letter for letter, option in zip(ascii_uppercase, options, strict=False) if option.lower() in text
    ]
    return named[0] if len(named) == 1 else None


def prompt(item: Item, conclusion: str) -> Prompt:
    """What a scorer is asked: the question as it is in the benchmark, without its hint, and the options."""
    options = "\n".join(
        f"{letter}. {option}" for letter, option in zip(ascii_uppercase, item.options, strict=False)
    )
    question = item.extra.get("question", item.text)
    return Prompt.of(
        f"{_TASK}\nQuestion: {question}\nOptions:\n{options}\nAnswer: {conclusion.strip()}\nLetter:"
    )


class Choice:
    """The rule of multiple choice, as for MMStar, MMBench and AI2D."""

    name = "choice"
    headline: tuple[str, ...] = ("accuracy",)

    def match(self, item: Item, conclusion: str) -> Score | None:
        said = infer(conclusion, item.options)
        return None if said is None else Score(float(said == item.answer), "match", said)

    def prompt(self, item: Item, conclusion: str) -> Prompt:
        return prompt(item, conclusion)

    def read(self, item: Item, conclusion: str, reply: str) -> Score | None:
        said = infer(reply, item.options)
        return None if said is None else Score(float(said == item.answer), "scorer", said, reply.strip())

    def metrics(self, scored: Sequence[Scored]) -> list[Metric]:
        return accuracy(scored)
