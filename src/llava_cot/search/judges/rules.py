"""A judge that looks for what is wrong by rule, whatever the question: arithmetic, options, format.

Owns the rules and their sum. It asks no model and needs no truth, and so finds only some of what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from string import ascii_uppercase

from llava_cot.core.answer_matching import agrees
from llava_cot.core.question import Question
from llava_cot.core.stages import SENTENCE, StageFormat, parse, validate
from llava_cot.core.trace import Candidate
from llava_cot.search.judges.arithmetic import equations
from llava_cot.search.judges.base import Grade, Judge, Preference

# A rule's name, and what breaks it ("" if nothing does).
Ruling = tuple[str, str]


class RulesJudge(Judge):
    """Prefers what keeps more rules. Scores are the share kept, of those that apply to the answer so far.

    arithmetic: every equation in it holds; applies if it has any. options: the conclusion gives one of the
    question's options; applies if both are there. format: the stages are as they should be, save absent ones,
    which a model may leave out; a whole answer must conclude.
    """

    name = "rules"
    probability = True

    def __init__(self, fmt: StageFormat) -> None:
        self._fmt = fmt

    async def prefer(
        self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
    ) -> Preference:
        x, y = (self._grade(question, stage, context + side.text) for side in (a, b))
        return Preference(
            None if x.value == y.value else 1 if x.value > y.value else 2,
            f"Response 1: {x.reply}\nResponse 2: {y.reply}",
            (x.value, y.value),
        )

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> Grade:
        return self._grade(question, stage, context + candidate.text)

    def _grade(self, question: Question, stage: str, text: str) -> Grade:
        rulings = list(_rulings(question, stage, text, self._fmt))
        kept = [name for name, fault in rulings if not fault]
        broken = [f"{name} ({fault})" for name, fault in rulings if fault]
        said = [f"Kept: {', '.join(kept)}."] if kept else []
        said += [f"Broken: {'; '.join(broken)}."] if broken else []
        return Grade(len(kept) / len(rulings), " ".join(said))


def _rulings(question: Question, stage: str, text: str, fmt: StageFormat) -> Iterator[Ruling]:
    found = equations(text)
    if found:
        yield "arithmetic", ", ".join(equation.text for equation in found if not equation.holds)
    conclusion = parse(text, fmt).conclusion
    if question.options and conclusion:
        letters = ascii_uppercase[: len(question.options)]
        given = any(agrees(conclusion, letter, question.options) is True for letter in letters)
        yield "options", "" if given else "the conclusion is none of them"
    complete = stage == fmt.final or stage not in (*fmt.names, SENTENCE)
    yield (
        "format",
        ", ".join(
            fault.detail
            for fault in validate(text, fmt)
            if not (fault.kind == "absent" and not (complete and fault.stage == fmt.final))
            and not (fault.kind == "unclosed" and stage == SENTENCE)
        ),
    )
