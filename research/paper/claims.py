"""What was found about each of the paper's claims: sentences, a table, a plot.

The paper is arXiv 2411.10440; its numbers are those of its first version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from llava_cot.evaluation.report.arms import Arm, cost_of
from llava_cot.evaluation.report.document import (
    BarGroup,
    BarPlot,
    Cell,
    LinePlot,
    PlotLine,
    PlotPoint,
    ReportSection,
    ReportTable,
    amount,
    cells,
    interval,
    number,
    score_cell,
    signed,
    signed_interval,
)
from llava_cot.evaluation.statistics import MeanEstimate, PairedDifference, mean_with_interval, paired
from llava_cot.evaluation.types import Unit
from research.paper.tasks import BASELINES

Arms = Mapping[tuple[str, str], Arm]  # of one benchmark, by model and method
NOTE = "Percent right, with 95% intervals over the questions; seeds are averaged question by question."
_STAGE_BEAMS = ("stage-beam", "stage-beam@implicit")  # judged by the model itself, or by a trained one
# What each search by stages is compared with.
_COMPARED = {
    "stage-beam": ("best-of", "sentence-beam", "majority"),
    "stage-beam@implicit": ("best-of@implicit", "majority"),
    "stage-wise-beam@implicit": ("best-of@implicit",),
    "swires@implicit": ("stage-wise-beam@implicit", "best-of@implicit"),
}
_FAMILIES = dict.fromkeys(name for family, others in _COMPARED.items() for name in (family, *others))
_DRAWN = ("stage-beam", "best-of", "sentence-beam", "majority", "stage-beam@implicit", "best-of@implicit")
_REFERENCES = ("single", "stage-beam-4")  # what baselines are compared with: one pass, and the paper's method


def units(arm: Arm) -> list[Unit]:
    """Return the units of an arm's score."""
    return [unit for metric in arm.headline for unit in metric.units]


def paired_units(base: Arm, arm: Arm) -> PairedDifference:
    """Return how much better an arm is than another."""
    return paired(units(base), units(arm))


def points(difference: PairedDifference | MeanEstimate) -> str:
    """Write a difference: "+1.8 points (−0.2 to +3.8)"."""
    return f"{signed(difference.value)} points ({signed_interval(difference)})"


def outcome(difference: PairedDifference | MeanEstimate) -> str:
    """Say whether a difference has the direction of the paper's, which is up, if its interval tells."""
    if difference.low <= 0 <= difference.high:
        return f"{points(difference)}: not distinguishable from zero"
    return f"{points(difference)}: {'as' if difference.value > 0 else 'unlike'} the paper"


def scaling(arms: Arms, model: str) -> ReportSection:
    """2. Does stage-level beam search scale?"""
    single, greedy = arms[model, "single"], arms.get((model, "greedy"))
    families = [found for name in _STAGE_BEAMS if (found := _family(arms, model, name))]
    named = [("single (N = 1)", single), *((arm.method, arm) for found in families for arm in found)]
    named += [("greedy", greedy)] if greedy is not None else []
    rows = [
        (
            Cell(name),
            score_cell(mean_with_interval(units(arm))),
            *(against(change(base, arm)) for base in (single, greedy)),
            Cell(tokens(arm)),
        )
        for name, arm in named
    ]
    sentences = []
    for found in families:
        first, last = found[0], found[-1]
        for arm in found:
            sentences.append(f"{arm.method} against one sampled pass: {_outcome(single, arm)}.")
        if greedy is not None:
            sentences.append(f"{last.method} against one greedy pass: {_outcome(greedy, last)}.")
        if first is not last:
            what = f"{first.family}, from N = {first.n} to N = {last.n}"
            sentences.append(f"{what}: {_outcome(first, last)}.")
    head = ("method", "score", "against single", "against greedy", "tokens written")
    paper = "The paper, on MM-Vet: 60.3, 61.7, 62.3 and 62.9 for N = 1, 2, 3 and 4."
    table = ReportTable("Stage-level beam search over N", head, tuple(rows), note=NOTE)
    return ReportSection("2. Does stage-level beam search scale?", (*sentences, table, paper))


def methods(arms: Arms, model: str) -> ReportSection:
    """3. Stage-level search against the other ways to spend as much."""
    single, greedy = arms[model, "single"], arms.get((model, "greedy"))
    families = {name: _family(arms, model, name) for name in _FAMILIES}
    sentences, rows, lines = [], [], []
    shown = {name: [single, *members] for name in _DRAWN if (members := families[name])}
    shown |= {"greedy": [greedy]} if greedy is not None else {}
    for name, members in shown.items():
        line = [
            token_point(arm, cost.written)
            for arm in members
            if (cost := cost_of(arm)) is not None and cost.written
        ]
        if line:
            lines.append(PlotLine(name, tuple(line)))
    for family, others in _COMPARED.items():
        for arm in families[family]:
            for name in others:
                for how, other in _comparable(families[name], arm):
                    rows.append(
                        (
                            Cell(arm.method, f"{tokens(arm)} tokens"),
                            Cell(other.method, f"{tokens(other)} tokens"),
                            Cell(how),
                            against(change(other, arm)),
                        )
                    )
                    if arm.n == 4 or arm is families[family][-1]:
                        sentences.append(
                            f"{arm.method} against {other.method} ({how}): {_outcome(other, arm)}."
                        )
    head = ("stage-level", "against", "", "difference")
    note = f"{NOTE} At equal tokens: the one of its family whose tokens are nearest, at most a third away."
    table = ReportTable("Side by side", head, tuple(rows), names=3, note=note)
    plot = LinePlot(
        name="reproduce-methods",
        title="Score by tokens, each method over N",
        alt="Score by tokens",
        lines=tuple(lines),
        x_name="tokens written a question",
        note="The numbers at the points are N. What a judge reads is not counted.",
    )
    paper = (
        "The paper, on MM-Vet: one pass 60.3, best-of-10 60.9, sentence-level with N = 2 58.4, stage-level "
        "with N = 4 62.9. Its version 6, on MMStar over time: SWIRES is better than stage-wise beam search, "
        "and that better than best-of-N."
    )
    return ReportSection("3. Stage-level search against the others", (*sentences, plot, table, paper))


def baselines(arms: Arms, model: str) -> ReportSection | None:
    """6. How do the baselines compare? None if none was run."""
    names = {method for group in BASELINES for method in group.methods}
    shown = [arm for (name, method), arm in arms.items() if name == model and method in names]
    if not shown:
        return None
    references = [arms.get((model, method)) for method in _REFERENCES]
    shown += filter(None, references)
    ranked = sorted(((mean_with_interval(units(arm)), arm) for arm in shown), key=lambda one: -one[0].value)
    rows = []
    for score, arm in ranked:
        changes = (against(change(base, arm)) for base in references)
        cost = cost_of(arm)
        costs = cells("–", "–") if cost is None else cells(amount(cost.calls), amount(cost.written))
        rows.append((Cell(arm.method), score_cell(score), *changes, *costs))
    head = ("method", "score", *(f"against {method}" for method in _REFERENCES), "calls", "tokens written")
    table = ReportTable("All of them, by score", head, tuple(rows), note=NOTE)
    plot = BarPlot(
        name="reproduce-baselines",
        title="Score by method, with 95% intervals",
        alt="Score by method",
        groups=tuple(BarGroup(arm.method, (score,)) for score, arm in ranked),
        series=("score",),
    )
    sentences = [f"{arm.method}: {number(score.value)} ({interval(score)})." for score, arm in ranked]
    return ReportSection("6. How do the baselines compare?", (*sentences, plot, table))


def _family(arms: Arms, model: str, name: str) -> list[Arm]:
    return sorted((a for (m, _), a in arms.items() if m == model and a.family == name), key=lambda arm: arm.n)


def _comparable(others: Sequence[Arm], arm: Arm) -> Iterator[tuple[str, Arm]]:
    """Yield those of a family that an arm is compared with, and what the two have in common."""
    same = next((other for other in others if other.n == arm.n), None)
    near = _nearest(others, arm)
    if same is not None:
        yield "at equal N and tokens" if same is near else "at equal N", same
    if near is not None and near is not same:
        yield "at equal tokens", near


def _nearest(others: Sequence[Arm], arm: Arm) -> Arm | None:
    """Return the arm with the nearest number of written tokens, if that is at most a third away."""
    cost = cost_of(arm)
    priced = [
        (abs(found.written - cost.written), other) for other in others if cost and (found := cost_of(other))
    ]
    if cost is None or not priced:
        return None
    distance, other = min(priced, key=lambda pair: pair[0])
    return other if distance <= cost.written / 3 else None


def token_point(arm: Arm, tokens: float) -> PlotPoint:
    score = mean_with_interval(units(arm))
    tooltip = f"{arm.method}: {number(score.value)} ({interval(score)}), {amount(tokens)} tokens"
    return PlotPoint(tokens, score, str(arm.budget or arm.n) if arm.n > 1 else "", tooltip)


def change(base: Arm | None, arm: Arm) -> PairedDifference | None:
    """Return how much better an arm is than its baseline, None for that itself and where there is none."""
    return None if base is None or base is arm else paired_units(base, arm)


def _outcome(base: Arm, arm: Arm) -> str:
    return outcome(paired_units(base, arm))


def against(change: PairedDifference | None) -> Cell:
    return Cell("–") if change is None else Cell(signed(change.value), signed_interval(change))


def tokens(arm: Arm) -> str:
    cost = cost_of(arm)
    return amount(None if cost is None else cost.written)
