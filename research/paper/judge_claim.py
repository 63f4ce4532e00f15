"""4. Which judge, and how good must it be? Several judges of one search, and one that errs at a set rate."""

from __future__ import annotations

from collections.abc import Mapping

from llava_cot.evaluation.judge_accuracy import share_ordered
from llava_cot.evaluation.report.arms import Arm
from llava_cot.evaluation.report.document import (
    Cell,
    LinePlot,
    PlotLine,
    PlotPoint,
    ReportSection,
    ReportTable,
    cells,
    interval,
    number,
    score_cell,
)
from llava_cot.evaluation.report.judging import ArmJudging, even_units
from llava_cot.evaluation.statistics import MeanEstimate, mean_with_interval
from research.paper.claims import NOTE, Arms, against, change, paired_units, points, tokens, units
from research.paper.tasks import ORACLES

_JUDGES = ("logits", "likelihood", "implicit", "rules", "verifier")


def judges(arms: Arms, model: str, judging: Mapping[Arm, ArmJudging]) -> ReportSection:
    """4. Which judge, and how good must it be?"""
    single = arms[model, "single"]
    rows, sentences = [], []
    for base in ("stage-beam-4", "best-of-4"):
        judged = _judged(arms, model, base)
        own = judged.get("self")
        for judge, arm in judged.items():
            score, ordered = score_cell(mean_with_interval(units(arm))), _ordered(judging.get(arm))
            changes = against(change(single, arm)), against(change(own, arm))
            share = Cell("–") if ordered is None else score_cell(ordered)
            rows.append((*cells(base, judge), score, *changes, share, Cell(tokens(arm))))
            if judge not in ORACLES:
                name = "a judge that knows the truth" if judge == "verifier" else f"the judge {judge}"
                sentences.append(
                    f"{base} with {name}, against one pass: {points(paired_units(single, arm))}."
                )
        if own is not None and own in judging and (even := even_units(judging[own])):
            blind = score_cell(mean_with_interval(even)), *cells("–", "–", "–", "–")
            rows.append((*cells(base, "none: an even choice"), *blind))
    plot = _ladder(arms, model, judging)
    stages = _judged(arms, model, "stage-beam-4")
    gaining = [
        errors
        for judge, errors in ORACLES.items()
        if judge in stages and paired_units(single, stages[judge]).low > 0
    ]
    if gaining:
        sentences.append(
            "With a judge that knows the truth and errs at a set rate, stage-beam-4 is better than one pass "
            f"up to {max(gaining)}% errors."
        )
    head = ("method", "judge", "score", "against single", "against self", "pairs ordered", "tokens written")
    note = (
        f"{NOTE} Pairs ordered: of the right and the wrong answers to one question that were compared, the "
        "share in which the judge prefers the right one. An even choice takes each different answer with "
        "equal chance, as a judge does that knows nothing. noisy-oracle-20 errs in 20% of what it decides."
    )
    table = ReportTable("One search, several judges", head, tuple(rows), names=2, note=note)
    paper = "The paper judges by the model itself alone."
    plots = () if plot is None else (plot,)
    return ReportSection("4. Which judge, and how good must it be?", (*sentences, *plots, table, paper))


def _judged(arms: Arms, model: str, base: str) -> dict[str, Arm]:
    """Return the arms of a search by judge, its own first."""
    found = {"self": arms.get((model, base))}
    found |= {judge: arms.get((model, f"{base}@{judge}")) for judge in (*_JUDGES, *ORACLES)}
    return {judge: arm for judge, arm in found.items() if arm is not None}


def _ladder(arms: Arms, model: str, judging: Mapping[Arm, ArmJudging]) -> LinePlot | None:
    """Return the plot of what a judge is worth by how it orders whole answers; None without the oracles."""
    whole, stages = _judged(arms, model, "best-of-4"), _judged(arms, model, "stage-beam-4")
    errors = {judge: percent for judge, percent in {**ORACLES, "verifier": 0}.items() if judge in stages}
    if len(errors) < 2:
        return None
    one_pass = mean_with_interval(units(arms[model, "single"]))
    lines = [PlotLine("one pass", (PlotPoint(50.0, one_pass), PlotPoint(100.0, one_pass)))]
    oracle = [_ladder_point(judge, 100.0 - percent, stages[judge]) for judge, percent in errors.items()]
    lines.append(PlotLine("knows the truth, errs at a set rate", tuple(sorted(oracle, key=lambda it: it.x))))
    for judge, arm in stages.items():
        ordered = _ordered(judging.get(whole[judge])) if judge in whole and judge not in errors else None
        if ordered is not None:
            lines.append(PlotLine(judge, (_ladder_point(judge, ordered.value, arm),)))
    return LinePlot(
        name="reproduce-judges",
        title="What a judge is worth in stage-beam-4",
        alt="Score of stage-beam-4 by how the judge orders right and wrong answers",
        lines=tuple(lines),
        x_name="pairs of a right and a wrong answer to one question ordered rightly, %",
        linear=True,
        note="Pairs of whole answers, of best-of-4; of the judge that errs, its rate. 50% is chance.",
    )


def _ladder_point(judge: str, ordered: float, arm: Arm) -> PlotPoint:
    score = mean_with_interval(units(arm))
    return PlotPoint(ordered, score, "", f"{judge}: {number(score.value)} ({interval(score)})")


def _ordered(judging: ArmJudging | None) -> MeanEstimate | None:
    return None if judging is None else share_ordered(judging.pairs)
