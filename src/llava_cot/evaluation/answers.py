"""What of an answer is scored, and what else a report counts of it.

Owns the ways to find the answer in what a model wrote. Knows no benchmark and no store.
"""

from __future__ import annotations

from typing import Literal, get_args

from llava_cot.core.stages import StageFormat, parse, validate
from llava_cot.core.trace import Trace
from llava_cot.evaluation.types import BenchmarkItem, ScoringRule

# The paper scores the conclusion alone. A model that was not taught stages may be taken at its last line (one
# that reasons first) or at its whole text; both are for such models only.
AnswerSource = Literal["conclusion", "last-line", "whole"]
ANSWER_SOURCES: tuple[AnswerSource, ...] = get_args(AnswerSource)


def said(text: str, fmt: StageFormat, way: AnswerSource) -> str | None:
    """The answer in a text, None if there is none.

    "conclusion" takes a text without any stage whole, as `trace.answer` does.
    """
    if way == "conclusion":
        return parse(text, fmt).answer
    if way == "last-line":
        return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)
    return text.strip() or None


def shape(trace: Trace, fmt: StageFormat) -> dict[str, object]:
    """How the format was kept: `kept`, `absent` and `lengths` of a `Result`."""
    return {
        "kept": not validate(trace.text, fmt),
        "absent": [name for name, text in trace.stages.items() if text is None],
        "lengths": {name: len(text) for name, text in trace.stages.items() if text is not None},
    }


def best_of_others(
    trace: Trace,
    item: BenchmarkItem,
    rule: ScoringRule,
    fmt: StageFormat,
    way: AnswerSource,
    conclusion: str | None,
) -> tuple[bool, float | None]:
    """Whether the method sampled several whole answers, and the best score among those that answer otherwise.

    None where that is not known: words alone do not settle one of them, and none is wholly right. No scorer
    is asked about answers that were not given.
    """
    whole = [one.text for one in trace.candidates if one.stage == "answer" and one.parent is None]
    if trace.n < 2 or not whole:
        return False, None
    texts = {said(text, fmt, way) for text in whole} - {conclusion, None}
    found = [rule.match(item, text) for text in sorted(text for text in texts if text is not None)]
    best = max((score.value for score in found if score is not None), default=0.0)
    return True, None if None in found and best < 1 else best
