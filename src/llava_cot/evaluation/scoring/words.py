"""Rules for answers of one's own data: exact, number, words, and the one that is taken if none is named.

Owns these rules and what a scorer is asked about free words. How words are compared is the subject of
`data/checking/agreement.py`. Of an item's `extra` it reads `answers`, all that an answer to it can be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from llava_cot.core.answer_matching import agrees, normal, numbers, option_of, same
from llava_cot.core.prompting import question_text
from llava_cot.core.question import Question
from llava_cot.evaluation.scoring.choice import Choice
from llava_cot.evaluation.scoring.counting import accuracy
from llava_cot.evaluation.scoring.yes_no import extract
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, Metric, ScoredItem, ScoringRule
from llava_cot.models.base import Prompt

_TASK = """\
Does an answer to a question mean the same as the answer that is known to be right? Other words for the same \
thing, and further detail, are no difference; another thing, number, name or option is. Reply with one word: \
Yes or No."""


@dataclass
class ByWords:
    """A rule by `right`, which is True or False, or None where the words do not settle it."""

    name: str
    right: Callable[[BenchmarkItem, str], bool | None]
    headline: tuple[str, ...] = ("accuracy",)

    def match(self, item: BenchmarkItem, conclusion: str) -> AnswerScore | None:
        right = self.right(item, conclusion)
        return None if right is None else AnswerScore(float(right), "match", normal(conclusion))

    def prompt(self, item: BenchmarkItem, conclusion: str) -> Prompt:
        asked = question_text(Question(item.text, options=item.options))
        known = item.answer or ""
        if known in ascii_uppercase[: len(item.options)]:
            known = f"{known}. {item.options[ascii_uppercase.index(known)]}"
        return Prompt.of(
            f"{_TASK}\n\nQuestion: {asked}\nRight answer: {known}\nAnswer: {conclusion.strip()}\nWord:"
        )

    def read(self, item: BenchmarkItem, conclusion: str, reply: str) -> AnswerScore | None:
        said = extract(reply)
        return None if said is None else AnswerScore(float(said == "Yes"), "scorer", reason=reply.strip())

    def metrics(self, scored: Sequence[ScoredItem]) -> list[Metric]:
        return accuracy(scored)


def _exact(item: BenchmarkItem, conclusion: str) -> bool:
    answer = item.answer or ""
    if item.options:
        said = option_of(conclusion, item.options)
        return said is not None and said == option_of(answer, item.options)
    return same(conclusion, answer)


def _number(item: BenchmarkItem, conclusion: str) -> bool | None:
    said = numbers(conclusion)
    return said == numbers(item.answer or "") if len(said) == 1 else None


def _words(item: BenchmarkItem, conclusion: str) -> bool | None:
    return agrees(conclusion, item.answer or "", item.options or tuple(item.extra.get("answers", ())))


EXACT = ByWords("exact", _exact)
NUMBER = ByWords("number", _number)
WORDS = ByWords("words", _words)


class Fitting:
    """Choice for a question with options, words for any other."""

    name = "fitting"
    headline: tuple[str, ...] = ("accuracy",)

    def match(self, item: BenchmarkItem, conclusion: str) -> AnswerScore | None:
        return _fitting(item).match(item, conclusion)

    def prompt(self, item: BenchmarkItem, conclusion: str) -> Prompt:
        return _fitting(item).prompt(item, conclusion)

    def read(self, item: BenchmarkItem, conclusion: str, reply: str) -> AnswerScore | None:
        return _fitting(item).read(item, conclusion, reply)

    def metrics(self, scored: Sequence[ScoredItem]) -> list[Metric]:
        return accuracy(scored)


def _fitting(item: BenchmarkItem) -> ScoringRule:
    return Choice() if item.options else WORDS
