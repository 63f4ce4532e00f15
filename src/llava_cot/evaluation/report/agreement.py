"""How far methods agree question by question, and what the best of their samples would have scored.

Owns the counting of pairs. An answer counts as right from half of the full score on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llava_cot.evaluation.report.arms import Arm, label, named
from llava_cot.evaluation.report.document import Cell, ReportTable, cells, number, share
from llava_cot.evaluation.results import QuestionResult

RIGHT = 0.5


@dataclass(frozen=True)
class Pairs:
    """The questions that two arms were both asked: how many each outcome has. Of several seeds, those that
    both have are paired one by one, or else the seeds in their order."""

    both: int
    first: int
    second: int
    none: int

    @property
    def count(self) -> int:
        return self.both + self.first + self.second + self.none


def pairs_of(first: Arm, second: Arm) -> Pairs:
    """Raises nothing: arms that share no question have no pairs."""
    outcomes = [
        (_right(mine), _right(theirs))
        for run, other in _paired_runs(first, second)
        for mine, theirs in _shared(run, other)
    ]
    return Pairs(
        *(outcomes.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False)))
    )


def agreement_table(arms: Sequence[Arm], baselines: Mapping[Arm, Arm]) -> ReportTable:
    """Each arm and its baseline: both right, one of them, none."""
    lines = []
    for arm in arms:
        if arm not in baselines:
            continue
        base = baselines[arm]
        pairs = pairs_of(base, arm)
        counts = (pairs.both, pairs.first, pairs.second, pairs.none)
        names = cells(label(base, arms), label(arm, arms))
        same = Cell(share(pairs.both + pairs.none, pairs.count))
        lines.append((*names, *(Cell(share(part, pairs.count), f"{part:,}") for part in counts), same))
    head = ("baseline", "method", "both right", "only the baseline", "only the method", "neither", "agree")
    note = (
        "An answer is right here from half of the full score on. The page compares any two methods, above "
        "its questions."
    )
    return ReportTable("Agreement", head, tuple(lines), names=2, note=note)


def reach_table(arms: Sequence[Arm]) -> ReportTable:
    """How many questions every method answers rightly, and how many at least one."""
    values = [arm.values for arm in arms]
    items = [item for item in values[0] if all(item in other for other in values)]
    right = [sum(found[item] >= RIGHT for found in values) for item in items]
    found = {
        "by every method": sum(count == len(arms) for count in right),
        "by some": sum(0 < count < len(arms) for count in right),
        "by none": sum(count == 0 for count in right),
    }
    lines = [(*cells(name, share(count, len(items))), Cell(f"{count:,}")) for name, count in found.items()]
    note = "Over all methods and models of this benchmark; several seeds of one are averaged first."
    return ReportTable("Questions answered rightly", ("", "share", "questions"), tuple(lines), note=note)


def oracle_table(arms: Sequence[Arm]) -> ReportTable | None:
    """Where whole answers are sampled: what was chosen, what voting chooses, and the best that is there."""
    lines = []
    for arm in arms:
        known = [(r.oracle, r.score.value) for r in arm.results if r.oracle is not None]
        if not known:
            continue
        oracle, chosen = (100 * sum(part) / len(known) for part in zip(*known, strict=True))
        vote = next((o for o in arms if (o.model, o.method) == (arm.model, f"majority-{arm.n}")), None)
        voted = "–" if vote is None else number(_mean_over(vote, arm))
        lines.append(
            (
                named(arm),
                *cells(f"{len(known):,}", number(chosen), voted, number(oracle), number(oracle - chosen)),
            )
        )
    if not lines:
        return None
    head = ("method", "questions", "chosen", "majority of as many", "best of them", "missed")
    note = (
        "The mean score of questions, in percent, where the score of every sampled answer is known: of the "
        "answer that was chosen, and of the best one, as a judge without fault would choose (the oracle)."
    )
    return ReportTable("Whole answers: chosen, voted and best", head, tuple(lines), note=note)


def _mean_over(vote: Arm, arm: Arm) -> float:
    """The score of voting, in percent, over the questions of which an arm's samples are known."""
    known = {result.item for result in arm.results if result.oracle is not None} & vote.values.keys()
    return 100 * sum(vote.values[item] for item in known) / max(1, len(known))


def _right(result: QuestionResult) -> bool:
    return result.score.value >= RIGHT


def _paired_runs(first: Arm, second: Arm) -> list[tuple[Sequence[QuestionResult], Sequence[QuestionResult]]]:
    ours = {setting.seed: run for setting, run in zip(first.settings, first.runs, strict=True)}
    theirs = {setting.seed: run for setting, run in zip(second.settings, second.runs, strict=True)}
    shared = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    return shared or list(zip(first.runs, second.runs, strict=False))


def _shared(
    run: Sequence[QuestionResult], other: Sequence[QuestionResult]
) -> list[tuple[QuestionResult, QuestionResult]]:
    theirs = {result.item: result for result in other}
    return [(result, theirs[result.item]) for result in run if result.item in theirs]
