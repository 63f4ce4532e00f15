"""What goes wrong: the format, stages that are absent, how scores and duels were settled.

Owns the counting. The shares of format and stages are of the questions that were answered, those of scores
of all that were asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import get_args

from llava_cot.evaluation.report.arms import Arm, named
from llava_cot.evaluation.report.document import Cell, ReportTable, share
from llava_cot.evaluation.types import ScoredBy

_BY = {
    "match": "its words",
    "scorer": "a scorer",
    "unsettled": "nothing",
    "absent": "no conclusion",
    "failed": "no answer",
}
_DECIDED = {
    "choice": "the judge's choice",
    "check": "a failed check",
    "same": "same text",
    "seed": "the seed",
}


def format_table(arms: Sequence[Arm]) -> ReportTable:
    """How often the format was kept and each stage absent, and how long the stages are."""
    stages = _stages(arms)
    lines = []
    for arm in arms:
        found = arm.answered
        kept = Cell(share(sum(result.kept for result in found), len(found)))
        absent = [Cell(share(sum(stage in r.absent for r in found), len(found))) for stage in stages]
        long = [[r.lengths[stage] for r in found if stage in r.lengths] for stage in stages]
        lengths = [Cell(f"{sum(one) / len(one):,.0f}" if one else "–") for one in long]
        lines.append((named(arm), kept, *absent, *lengths))
    head = ("method", "format kept", *(f"no {s}" for s in stages), *(f"{s}, characters" for s in stages))
    note = "Of the questions that were answered. A stage's length is the mean over the answers that have it."
    return ReportTable("Format and stages", head, tuple(lines), note=note)


def settled_table(arms: Sequence[Arm]) -> ReportTable:
    """What settled the scores."""
    lines = []
    for arm in arms:
        counts = Counter(result.score.by for result in arm.results)
        shown = [Cell(share(counts[by], len(arm.results)), f"{counts[by]:,}") for by in get_args(ScoredBy)]
        lines.append((named(arm), *shown))
    note = (
        "What settled the score of a conclusion: its words alone, a scorer (a model), or nothing, since "
        "there was no scorer or it could not be read. All but the first two count as wrong."
    )
    return ReportTable(
        "How scores were settled",
        ("method", *(_BY[by] for by in get_args(ScoredBy))),
        tuple(lines),
        note=note,
    )


def duels_table(arms: Sequence[Arm], decided: Mapping[Arm, Counter[str]]) -> ReportTable | None:
    """What settled the duels between candidates; None where no method judges."""
    lines = []
    for arm in arms:
        counts = decided.get(arm, Counter())
        if not counts:
            continue
        total, answered = counts.total(), len(arm.answered)
        shown = [Cell(share(counts[by], total), f"{counts[by]:,}") for by in _DECIDED]
        lines.append((named(arm), Cell(f"{total / answered:.1f}"), *shown))
    if not lines:
        return None
    note = (
        "The seed settles a duel where the judge's reply chooses neither; many such mean a judge that does "
        "not judge."
    )
    head = ("method", "duels a question", *_DECIDED.values())
    return ReportTable("How duels were decided", head, tuple(lines), note=note)


def _stages(arms: Sequence[Arm]) -> list[str]:
    """All stages there are, in the order of the answers that have the most."""
    found = sorted((result for arm in arms for result in arm.answered), key=lambda r: -len(r.lengths))
    names = dict.fromkeys(name for result in found[:1] for name in result.lengths)
    return list(names | dict.fromkeys(name for result in found for name in (*result.lengths, *result.absent)))
