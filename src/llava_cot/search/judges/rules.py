"""The judge that looks for faults by rule: arithmetic, options, format.

It uses no model and needs no reference, and so finds only some faults.
"""

from __future__ import annotations

from collections.abc import Iterator

from llava_cot.core.answer_matching import agrees
from llava_cot.core.question import Question, lettered
from llava_cot.core.stages import SENTENCE, StageFormat, parse, validate
from llava_cot.core.trace import Candidate
from llava_cot.search.judges.arithmetic import equations
from llava_cot.search.judges.base import Judge, JudgeScore, judge

# A rule's name, and its violation ("" if there is none).
Ruling = tuple[str, str]


@judge("rules", probability=True)
class RulesJudge(Judge):
    """Prefers the text that violates fewer rules.

    Scores are the share of rules passed, of those that apply to the answer so far.

    arithmetic: every equation in it holds; applies if it has any. options: the conclusion gives one of the
    question's options; applies if both are there. format: the stages are as they should be, except absent
    ones, which a model may leave out; a whole answer must conclude.
    """

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        rulings = list(_rulings(question, stage, context + candidate.text, self.setup.fmt))
        passed = [name for name, fault in rulings if not fault]
        broken = [f"{name} ({fault})" for name, fault in rulings if fault]
        reply = [f"Kept: {', '.join(passed)}."] if passed else []
        reply += [f"Broken: {'; '.join(broken)}."] if broken else []
        return JudgeScore(len(passed) / len(rulings), " ".join(reply))


def _rulings(question: Question, stage: str, text: str, fmt: StageFormat) -> Iterator[Ruling]:
    found = equations(text)
    if found:
        yield "arithmetic", ", ".join(equation.text for equation in found if not equation.holds)
    conclusion = parse(text, fmt).conclusion
    if question.options and conclusion:
        letters = [letter for letter, _ in lettered(question.options)]
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
