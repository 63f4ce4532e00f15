"""MM-Vet: free answers, graded from 0 to 1 by a scorer and reported by capability, as in VLMEvalKit.

Its code is `vlmeval/dataset/utils/mmvet.py`; differences are in `docs/reference/benchmarks.md`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from llava_cot.evaluation.scoring import unit_of
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, Metric, ScoredItem, Unit
from llava_cot.models.base import Prompt

_CAPABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")
# A grade as a scorer writes it: "0.8", "Grade: 0.8", "**0.8**", "0.8/1.0"; more than VLMEvalKit reads.
_MARKS = str.maketrans("", "", '*_`#$"[](){}')
_GRADE = re.compile(
    r"(?P<lead>(?:(?:the|my|final|overall)\s+)*(?:grade|score|rating)\s*(?:is|:|=)?)?\s*"
    r"(?P<grade>[+-]?\d*\.?\d+(?:e[+-]?\d+)?)(?:\s*(?:/|out of)\s*1(?:\.0)?)?\.?",
    re.IGNORECASE,
)
_SEVERAL = re.compile(r"<(?:AND|OR)>")
_TASK = """\
Grade an answer to a question about a picture by comparing it with the reference. You do not see the \
picture: take the reference as true. The grade is one of 0.0, 0.1, 0.2, and so on to 1.0. It is 0.0 for an \
answer with nothing of the reference in it, 1.0 for one with all of it, and in between the share that is \
there. Parts of a reference that are joined by <AND> must all be in the answer; of parts joined by <OR>, one \
is enough. Other wording and further detail cost nothing, unless they contradict the reference.

Reply with the grade alone."""
_EXAMPLES = (
    ("Which fruits lie in the bowl?", "pears <AND> plums", "There are pears and two plums.", "1.0"),
    ("Which fruits lie in the bowl?", "pears <AND> plums", "I can see some pears.", "0.5"),
    ("Which fruits lie in the bowl?", "pears <AND> plums", "A bowl of grapes.", "0.0"),
    ("What is the boat called?", "Marie <OR> the Marie", "Its name is Marie", "1.0"),
    (
        "Why does the man hold a newspaper over his head?",
        "It has begun to rain and he has no umbrella, so he uses the paper to keep dry.",
        "He wants to shelter from something that falls, though I cannot tell what it is.",
        "0.4",
    ),
    ("How much do two tickets cost?", "$14", "One ticket is $7 and you need two: 14 dollars.", "1.0"),
)


class MMVetRule:
    """The rule of MM-Vet. `extra["capability"]` of an item names capabilities, separated by commas."""

    name = "mm-vet"
    headline = ("overall",)

    def match(self, item: BenchmarkItem, conclusion: str) -> AnswerScore | None:
        answer = item.answer or ""
        if _SEVERAL.search(answer) or not answer.strip() or _plain(answer) != _plain(conclusion):
            return None
        return AnswerScore(1.0, "match", conclusion.strip())

    def prompt(self, item: BenchmarkItem, conclusion: str) -> Prompt:
        reference = _SEVERAL.sub(lambda found: f" {found[0]} ", item.answer or "")
        question = (item.text, " ".join(reference.split()), conclusion, "")
        return Prompt.of("\n\n".join((_TASK, *(_example(*example) for example in (*_EXAMPLES, question)))))

    def read(self, item: BenchmarkItem, conclusion: str, reply: str) -> AnswerScore | None:
        lines = reply.replace("\\boxed", "").translate(_MARKS).strip().splitlines() or [""]
        found = _GRADE.fullmatch(lines[0].strip())
        if found is None and (last := _GRADE.fullmatch(lines[-1].strip())) and last["lead"]:
            found = last  # "Half of it is there.\nGrade: 0.5"
        grade = float(found["grade"]) if found else -1.0
        return AnswerScore(grade, "scorer", reason=reply) if 0 <= grade <= 1 else None

    def metrics(self, scored: Sequence[ScoredItem]) -> list[Metric]:
        """Average overall, by capability and by combination of capabilities ("rec_ocr").

        As in VLMEvalKit a question with a single capability counts twice in it: alone, and as a combination.
        """
        found: dict[str, list[Unit]] = {"overall": [], **{name: [] for name in _CAPABILITIES}}
        for one in scored:
            unit = unit_of(one)
            capabilities = str(one.item.extra.get("capability", ""))
            groups = ["overall", *(name for name in _CAPABILITIES if name in capabilities)]
            for name in groups:
                found[name].append(unit)
            if combination := capabilities.replace(",", "_"):
                if combination in groups:
                    unit = replace(unit, key=f"{unit.key} again")
                found.setdefault(combination, []).append(unit)
        return [Metric(name, tuple(units)) for name, units in found.items() if units]


def _example(question: str, reference: str, answer: str, grade: str) -> str:
    return f"Question: {question}\nReference: {reference}\nAnswer: {answer}\nGrade: {grade}".rstrip()


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
