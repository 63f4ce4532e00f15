"""MathVista: an answer is extracted from the conclusion and compared by its type, as in VLMEvalKit.

Its code is `vlmeval/dataset/utils/mathvista.py`; differences are in `docs/reference/benchmarks.md`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from llava_cot.data.sources.tsv import parse_list
from llava_cot.errors import DataError
from llava_cot.evaluation.scoring import unit_of
from llava_cot.evaluation.scoring.choice import NO_OPTION, OLD, infer_option
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, Metric, ScoredBy, ScoredItem, Unit
from llava_cot.models.base import Prompt

_NUMBERS: dict[str, Callable[[str], float]] = {"integer": int, "float": float}
_TASK = f"""\
Below is a question about a picture, with a hint at the form of its answer, and a response to it. Write down \
the answer that the response gives, in that form: a number without its unit, a list in brackets, or the \
letter of a choice. Do not solve the question, and do not correct the response. Write {NO_OPTION} if the \
response gives no answer. Write nothing else."""
_EXAMPLES = (
    (
        "Hint: Answer with an integer.\nQuestion: How many boats are in the harbour?",
        "Three boats lie at the pier and four at anchor, which makes seven boats.",
        "7",
    ),
    (
        "Hint: Answer with a number that has one decimal place.\nQuestion: What share of the jars is full?",
        "8 of the 10 jars are full, so the share is 0.8 (80%).",
        "0.8",
    ),
    (
        "Hint: Answer with a number that has two decimal places.\nQuestion: What does a pound of figs cost?",
        "By the label, a pound of figs costs $2.35.",
        "2.35",
    ),
    (
        "Hint: Answer with a list of integers.\nQuestion: In which two months was the rain the same?",
        "The bars of the 4th and the 9th month have the same height.",
        "[4, 9]",
    ),
    (
        "Hint: Answer with the letter of the right choice.\nQuestion: How wide is the angle at P?\n"
        "Choices:\n(A) 35°\n(B) 55°\n(C) 70°\n(D) 110°",
        "Both angles at the base are 55°, and so the one at P has 180° - 110° = 70°.",
        "C",
    ),
    (
        "Hint: Answer with an integer.\nQuestion: What is the age of the tree?",
        "The rings cannot be counted in this picture.",
        NO_OPTION,
    ),
)


class MathVistaRule:
    """The rule of MathVista.

    An item's `extra` has `question_type` ("multi_choice" or "free_form"), `answer_type`, for a choice
    `choices` (a list, or its text) and `answer_option` (the letter), and for the metrics `task` and `skills`
    (a list, its text, or a single skill). DataError is raised where one that scoring needs is missing. `old`
    is as in `ChoiceRule`.
    """

    name = "mathvista"
    headline = ("overall",)

    def __init__(self, old: bool = False) -> None:
        self.old = old
        if old:
            self.name = f"{self.name}-{OLD}"

    def match(self, item: BenchmarkItem, conclusion: str) -> AnswerScore | None:
        chosen = _is_choice(item)
        if not chosen and (kind := _extra(item, "answer_type")) not in _NUMBERS:
            return AnswerScore(0.0, "match", reason=f"VLMEvalKit compares no answer of the type {kind!r}")
        found = _compared(item, conclusion, "match", self.old)
        if found is not None and not found.value and not chosen and kind == "float":
            return None  # a scorer may round it to the places that the hint asks for
        return found

    def prompt(self, item: BenchmarkItem, conclusion: str) -> Prompt:
        shown = (_shown(*example) for example in (*_EXAMPLES, (item.text, conclusion, "")))
        return Prompt.of("\n\n".join((_TASK, *shown)))

    def read(self, item: BenchmarkItem, conclusion: str, reply: str) -> AnswerScore | None:
        text = re.sub("[*`]", "", reply)
        if text.strip() == NO_OPTION:
            return AnswerScore(0.0, "scorer", NO_OPTION, reply)
        found = _compared(item, text, "scorer", self.old)
        return None if found is None else replace(found, reason=reply)

    def metrics(self, scored: Sequence[ScoredItem]) -> list[Metric]:
        """Average overall, by task and by skill; a question counts in each of its skills."""
        overall: list[Unit] = []
        tasks: dict[str, list[Unit]] = {}
        skills: dict[str, list[Unit]] = {}
        for one in scored:
            unit = unit_of(one)
            overall.append(unit)
            if task := str(one.item.extra.get("task", "")):
                tasks.setdefault(task, []).append(unit)
            for skill in _list(one.item.extra.get("skills", "")):
                skills.setdefault(skill, []).append(unit)
        return [Metric(name, tuple(units)) for name, units in ({"overall": overall} | tasks | skills).items()]


def _compared(item: BenchmarkItem, text: str, by: ScoredBy, old: bool) -> AnswerScore | None:
    """Score a text; None if it is no answer of the question's type."""
    reason = text if by == "scorer" else ""
    if _is_choice(item):
        letter = infer_option(text, _list(_extra(item, "choices")), empty=True, old=old)
        if letter is None:
            return None
        return AnswerScore(float(letter == _extra(item, "answer_option")), by, letter, reason)
    kind = _extra(item, "answer_type")
    value = _number(kind, text)
    if value is None:
        return None
    return AnswerScore(float(value == _number(kind, item.answer or "")), by, text.strip(), reason)


def _is_choice(item: BenchmarkItem) -> bool:
    return bool(_extra(item, "question_type") == "multi_choice")


def _extra(item: BenchmarkItem, name: str) -> Any:
    value = item.extra.get(name)
    if not value:
        raise DataError(
            f"the question {item.id} has no {name}, which MathVista's rule needs; look at its file"
        )
    return value


def _list(value: Any) -> list[str]:
    return parse_list(value) if isinstance(value, str) else [str(one) for one in value]


def _number(kind: str, text: str) -> float | None:
    try:
        return _NUMBERS[kind](text)
    except ValueError:
        return None


def _shown(question: str, response: str, answer: str) -> str:
    return f"{question}\nResponse: {response}\nExtracted answer: {answer}".rstrip()
