"""Tables of costs, agreement of methods, oracle scores, format errors, and how scores were decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from llava_cot.core.trace import WarningKind
from llava_cot.evaluation.report.arms import Arm, arm_label, cost_of, name_cell
from llava_cot.evaluation.report.document import Cell, ReportTable, amount, cells, number, share, share_cells
from llava_cot.evaluation.report.judging import ArmJudging, even_units
from llava_cot.evaluation.types import RIGHT, ScoredBy

_SCORED_BY: dict[ScoredBy, str] = {
    "match": "its words",
    "scorer": "a scorer",
    "unsettled": "nothing",
    "absent": "no conclusion",
    "failed": "no answer",
}
WARNING_KINDS: dict[WarningKind, str] = {
    "unfamiliar": "the model does not know the subject",
    "no-stages": "no stage found",
    "absent-stages": "stages absent",
    "cut": "a candidate cut off",
    "no-choice": "the judge chose neither",
    "not-compared": "nothing compared",
    "whole-answers": "whole answers searched",
}
_DECIDED_BY = {
    "choice": "the judge's choice",
    "check": "a failed check",
    "same": "same text",
    "seed": "the seed",
}


def costs_table(arms: Sequence[Arm]) -> ReportTable:
    """What a question costs, by arm."""
    rows = []
    for arm in arms:
        cost, failed = cost_of(arm), len(arm.results) - len(arm.answered)
        shown = ["–"] * 7
        if cost is not None:
            usd = "–" if cost.usd is None else f"${cost.usd:.2g}"
            parts = (cost.candidates, cost.written, cost.read, cost.calls, cost.seconds, cost.in_flight)
            shown = [*(amount(part) for part in parts), usd]
        count = Cell(f"{failed:,}", mark="worse" if failed else "")
        rows.append((name_cell(arm), *cells(*shown, f"{len(arm.results):,}"), count))
    head = (
        "method", "candidates", "tokens written", "tokens read", "model calls", "seconds",
        "seconds in flight", "money", "asked", "failed",
    )  # fmt: skip
    note = (
        "Over the questions that were answered. Tokens and calls are those of all candidates and all duels, "
        "chosen or not. Seconds are the run's: where questions run together, each second is divided among "
        "them. Seconds in flight are from a question's start to its end."
    )
    return ReportTable("Cost of a question", head, tuple(rows), note=note)


class PairCounts(NamedTuple):
    """How often two arms are right on the same question: both, only one of them, or neither."""

    both: int
    first: int
    second: int
    neither: int


def pair_counts(first: Arm, second: Arm) -> PairCounts:
    """Compare the runs of the seeds that both arms have, or if there are none, the runs in their order."""
    ours, theirs = first.by_seed, second.by_seed
    shared = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    outcomes = Counter(
        (result.score.value >= RIGHT, other[id].score.value >= RIGHT)
        for run, other in shared or zip(ours.values(), theirs.values(), strict=False)
        for id, result in run.items()
        if id in other
    )
    return PairCounts(*(outcomes[one, other] for one in (True, False) for other in (True, False)))


def agreement_table(baselines: Mapping[Arm, Arm], arms: Sequence[Arm]) -> ReportTable:
    """Each arm and its baseline: both right, one of them, neither."""
    rows = []
    for arm, base in baselines.items():
        pairs = pair_counts(base, arm)
        names = cells(arm_label(base, arms), arm_label(arm, arms))
        same = Cell(share(pairs.both + pairs.neither, sum(pairs)))
        rows.append((*names, *share_cells(pairs, sum(pairs)), same))
    head = ("baseline", "method", "both right", "only the baseline", "only the method", "neither", "agree")
    note = (
        "An answer counts as right from half of the full score on. The HTML page compares any two methods, "
        "above its questions."
    )
    return ReportTable("Agreement", head, tuple(rows), names=2, note=note)


def reach_table(arms: Sequence[Arm]) -> ReportTable:
    """How many questions every method answers correctly, how many some, and how many none."""
    values = [arm.values for arm in arms]
    items = [item for item in values[0] if all(item in other for other in values)]
    right = [sum(found[item] >= RIGHT for found in values) for item in items]
    found = {
        "by every method": sum(count == len(arms) for count in right),
        "by some": sum(0 < count < len(arms) for count in right),
        "by none": sum(count == 0 for count in right),
    }
    rows = [cells(name, share(count, len(items)), f"{count:,}") for name, count in found.items()]
    note = "Over all methods and models of this benchmark; several seeds of one are averaged first."
    return ReportTable("Questions answered correctly", ("", "share", "questions"), tuple(rows), note=note)


def oracle_table(arms: Sequence[Arm], judging: Mapping[Arm, ArmJudging]) -> ReportTable | None:
    """For methods that sample whole answers: the chosen answer, other ways of choosing, and the best one."""
    rows = []
    for arm in arms:
        known = [(r.item, r.oracle, r.score.value) for r in arm.results if r.oracle is not None]
        if not known:
            continue
        items, best, values = zip(*known, strict=True)
        oracle, chosen = 100 * sum(best) / len(known), 100 * sum(values) / len(known)
        vote = next((o for o in arms if (o.model, o.method) == (arm.model, f"majority-{arm.n}")), None)
        voted = "–"
        if vote is not None:
            shared = set(items) & vote.values.keys()
            voted = number(100 * sum(vote.values[item] for item in shared) / max(1, len(shared)))
        even = even_units(judging[arm]) if arm in judging else []
        evenly = number(100 * fmean(unit.value for unit in even)) if even else "–"
        shown = (number(chosen), evenly, voted, number(oracle), number(oracle - chosen))
        rows.append((name_cell(arm), *cells(f"{len(known):,}", *shown)))
    if not rows:
        return None
    head = ("method", "questions", "chosen", "even choice", "majority of as many", "best of them", "missed")
    note = (
        "The mean score of questions, in percent, where the score of every sampled answer is known: of the "
        "answer that was chosen, and of the best one, as a perfect judge would choose (the oracle). An even "
        "choice takes each different answer with equal chance, as a judge does that knows nothing; it is "
        "below one sample, since it forgets how often each was sampled."
    )
    return ReportTable("Whole answers: chosen, voted and best", head, tuple(rows), note=note)


def format_table(arms: Sequence[Arm]) -> ReportTable:
    """How often the format is valid and each stage absent, and how long the stages are."""
    stages = _stages(arms)
    rows = []
    for arm in arms:
        found = arm.answered
        valid = Cell(share(sum(result.valid_format for result in found), len(found)))
        absent = [Cell(share(sum(stage in r.absent_stages for r in found), len(found))) for stage in stages]
        by_stage = [[r.stage_lengths[stage] for r in found if stage in r.stage_lengths] for stage in stages]
        lengths = [Cell(f"{sum(one) / len(one):,.0f}" if one else "–") for one in by_stage]
        rows.append((name_cell(arm), valid, *absent, *lengths))
    head = ("method", "format kept", *(f"no {s}" for s in stages), *(f"{s}, characters" for s in stages))
    note = "Of the questions that were answered. A stage's length is the mean over the answers that have it."
    return ReportTable("Format and stages", head, tuple(rows), note=note)


def warnings_table(arms: Sequence[Arm]) -> ReportTable | None:
    """How many answers have warnings, by kind; None where none has."""
    found = {arm: Counter(kind for result in arm.answered for kind in result.warnings) for arm in arms}
    kinds = [kind for kind in WARNING_KINDS if any(counts[kind] for counts in found.values())]
    if not kinds:
        return None
    rows = []
    for arm, counts in found.items():
        shown = (f"{count:,}" for count in (len(arm.answered), *(counts[kind] for kind in kinds)))
        rows.append((name_cell(arm), *cells(*shown)))
    head = ("method", "answers", *(WARNING_KINDS[kind] for kind in kinds))
    note = "An answer may have warnings of several kinds; their sentences are with the searches."
    return ReportTable("Warnings", head, tuple(rows), note=note)


def scored_by_table(arms: Sequence[Arm]) -> ReportTable:
    """How the scores of all questions were decided."""
    rows = []
    for arm in arms:
        by = Counter(result.score.by for result in arm.results)
        rows.append((name_cell(arm), *share_cells([by[name] for name in _SCORED_BY], by.total())))
    note = (
        "What decided the score of a conclusion: its words alone, a scorer (a model), or nothing, because "
        "there was no scorer or its replies could not be read. All but the first two count as wrong."
    )
    return ReportTable("How scores were decided", ("method", *_SCORED_BY.values()), tuple(rows), note=note)


def duels_table(arms: Sequence[Arm], judging: Mapping[Arm, ArmJudging]) -> ReportTable | None:
    """How the duels between candidates were decided; None where no method judges."""
    rows = []
    for arm in arms:
        if by := judging[arm].decided:
            each = Cell(f"{by.total() / len(arm.answered):.1f}")
            rows.append((name_cell(arm), each, *share_cells([by[name] for name in _DECIDED_BY], by.total())))
    if not rows:
        return None
    note = (
        "The seed decides a duel where the judge's reply chooses neither candidate; many of these mean that "
        "the judge does not work."
    )
    head = ("method", "duels a question", *_DECIDED_BY.values())
    return ReportTable("How duels were decided", head, tuple(rows), note=note)


def _stages(arms: Sequence[Arm]) -> list[str]:
    """All stages, in the order of the answers that have the most."""
    found = sorted((result for arm in arms for result in arm.answered), key=lambda r: -len(r.stage_lengths))
    return list(dict.fromkeys(name for r in found for name in (*r.stage_lengths, *r.absent_stages)))
