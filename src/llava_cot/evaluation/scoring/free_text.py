"""Rules for the user's own benchmarks: exact, number, words, and the default, fitting.

How words are compared is in `core/answer_matching.py`. Of an item's `extra` the rules read `answers`, all
values that an answer to it can have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from string import ascii_uppercase

from llava_cot.core.answer_matching import agrees, chosen_option, normal, option_of, same
from llava_cot.core.numbers import compare_numbers, find_numbers, read_number
from llava_cot.core.question import Question, lettered, question_text
from llava_cot.evaluation.scoring import AccuracyRule
from llava_cot.evaluation.scoring.choice import ChoiceRule
from llava_cot.evaluation.scoring.yes_no import read_yes_no
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, ScoringRule
from llava_cot.models.base import Prompt

_TASK = """\
Does an answer to a question mean the same as the answer that is known to be right? Other words for the same \
thing, and further detail, are no difference; another thing, number, name or option is. Reply with one word: \
Yes or No."""


@dataclass
class ComparisonRule(AccuracyRule):
    """A rule by `is_right`, which returns None where the text does not decide it."""

    name: str
    is_right: Callable[[BenchmarkItem, str], bool | None]

    def match(self, item: BenchmarkItem, conclusion: str) -> AnswerScore | None:
        right = self.is_right(item, conclusion)
        return None if right is None else AnswerScore(float(right), "match", normal(conclusion))

    def prompt(self, item: BenchmarkItem, conclusion: str) -> Prompt:
        question = question_text(Question(item.text, options=item.options))
        reference = item.answer or ""
        if (option := dict(lettered(item.options)).get(reference)) is not None:
            reference = f"{reference}. {option}"
        return Prompt.of(
            f"{_TASK}\n\nQuestion: {question}\nRight answer: {reference}\nAnswer: {conclusion.strip()}\nWord:"
        )

    def read(self, item: BenchmarkItem, conclusion: str, reply: str) -> AnswerScore | None:
        word = read_yes_no(reply)
        return None if word is None else AnswerScore(float(word == "Yes"), "scorer", reason=reply.strip())


def _exact(item: BenchmarkItem, conclusion: str) -> bool:
    answer = item.answer or ""
    if item.options:
        option = option_of(conclusion, item.options)
        return option is not None and option == option_of(answer, item.options)
    return same(conclusion, answer)


def _number(item: BenchmarkItem, conclusion: str) -> bool | None:
    given, right = find_numbers(conclusion), read_number(item.answer or "")
    if len(given) != 1 or given[0] is None or right is None:
        return None
    return compare_numbers(given[0], right)


def _words(item: BenchmarkItem, conclusion: str) -> bool | None:
    return agrees(conclusion, item.answer or "", item.options or tuple(item.extra.get("answers", ())))


EXACT = ComparisonRule("exact", _exact)
NUMBER = ComparisonRule("number", _number)
WORDS = ComparisonRule("words", _words)


class OptionsRule(ChoiceRule):
    """Options of the user's own questions, by letter or by text; stricter than VLMEvalKit's `ChoiceRule`."""

    name = "options"

    def match(self, item: BenchmarkItem, conclusion: str) -> AnswerScore | None:
        right = _words(item, conclusion)
        chosen = chosen_option(conclusion, item.options)
        extracted = normal(conclusion) if chosen is None else ascii_uppercase[chosen]
        return None if right is None else AnswerScore(float(right), "match", extracted)


class FittingRule(AccuracyRule):
    """`OptionsRule` for a question with options, `WORDS` for any other."""

    name = "fitting"

    def match(self, item: BenchmarkItem, conclusion: str) -> AnswerScore | None:
        return _rule_for(item).match(item, conclusion)

    def prompt(self, item: BenchmarkItem, conclusion: str) -> Prompt:
        return _rule_for(item).prompt(item, conclusion)

    def read(self, item: BenchmarkItem, conclusion: str, reply: str) -> AnswerScore | None:
        return _rule_for(item).read(item, conclusion, reply)


def _rule_for(item: BenchmarkItem) -> ScoringRule:
    return OptionsRule() if item.options else WORDS
