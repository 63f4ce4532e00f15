"""Arms of results that are given outright, and what sections say of them."""

from collections.abc import Sequence
from dataclasses import replace

from llava_cot.core.trace import Usage
from llava_cot.evaluation.report.arms import Arm
from llava_cot.evaluation.report.document import ReportSection, ReportTable
from llava_cot.evaluation.results import QuestionResult
from llava_cot.evaluation.types import AnswerScore, Metric, RunKey, Unit
from research.paper.claims import Arms

SKILLS = ("exist", "numbers")  # one of perception, one of reasoning
DEPTHS = ("0", "3")  # of these


def arm(model: str, method: str, right: Sequence[float], tokens: int = 100) -> Arm:
    """Of questions that are of perception and of reasoning in turn."""
    skills = [SKILLS[i % 2] for i in range(len(right))]
    results = tuple(
        QuestionResult(
            str(i), skill, AnswerScore(value, "match"), "x", True, (), {}, Usage(completion_tokens=tokens)
        )
        for i, (value, skill) in enumerate(zip(right, skills, strict=True))
    )
    units = tuple(Unit(result.item, result.score.value, result.skill, result.item) for result in results)
    by_depth = tuple(replace(unit, skill=DEPTHS[SKILLS.index(unit.skill)]) for unit in units)
    metrics = Metric("accuracy", units), Metric("accuracy by depth", by_depth)
    return Arm((RunKey("scenes-hard", model, method, 0),), (results,), metrics, ("accuracy",))


def arms(*found: Arm) -> Arms:
    return {(one.model, one.method): one for one in found}


def said(section: ReportSection) -> list[str]:
    return [part for part in section.parts if isinstance(part, str)]


def table(section: ReportSection) -> list[list[str]]:
    """The first one."""
    first, *_ = [part for part in section.parts if isinstance(part, ReportTable)]
    return [[cell.text for cell in row] for row in first.rows]
