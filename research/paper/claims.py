"""What was found about each of the paper's claims: sentences, a table, a plot.

The paper is arXiv 2411.10440; its numbers are those of its first version.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from llava_cot.evaluation.judge_accuracy import share_ordered
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
from llava_cot.evaluation.report.judging import ArmJudging, even_units
from llava_cot.evaluation.statistics import MeanEstimate, PairedDifference, mean_with_interval, paired
from llava_cot.evaluation.types import Unit
from llava_cot.scenes.questions import PERCEPTION, REASONING, TYPES
from research.paper.tasks import BASELINES, TRAINED

Arms = Mapping[tuple[str, str], Arm]  # of one benchmark, by model and method
_Kind = tuple[str, Callable[[str], bool]]
_KINDS: tuple[_Kind, ...] = (
    ("all", lambda skill: True),
    ("perception", PERCEPTION.__contains__),
    ("reasoning", REASONING.__contains__),
)
NOTE = "Percent right, with 95% intervals over the questions; seeds are averaged question by question."
_JUDGES = ("logits", "likelihood", "rules", "verifier")
_FAMILIES = ("stage-beam", "best-of", "sentence-beam", "majority")
_REFERENCES = ("single", "stage-beam-4")  # what baselines are compared with: one pass, and the paper's method


def units(arm: Arm, keep: Callable[[str], bool] = lambda skill: True) -> list[Unit]:
    """Return the units of an arm's score, of those skills that `keep` accepts."""
    return [unit for metric in arm.headline for unit in metric.units if keep(unit.skill)]


def points(difference: PairedDifference | MeanEstimate) -> str:
    """Write a difference: "+1.8 points (−0.2 to +3.8)"."""
    return f"{signed(difference.value)} points ({signed_interval(difference)})"


def outcome(difference: PairedDifference | MeanEstimate) -> str:
    """Say whether a difference has the direction of the paper's, which is up, if its interval tells."""
    if difference.low <= 0 <= difference.high:
        return f"{points(difference)}: not distinguishable from zero"
    return f"{points(difference)}: {'as' if difference.value > 0 else 'unlike'} the paper"


def excess(a: PairedDifference, b: PairedDifference) -> MeanEstimate:
    """Return how much larger a difference is than one of other questions (normal intervals)."""
    value, half = a.value - b.value, math.hypot(a.high - a.low, b.high - b.low) / 2
    return MeanEstimate(value, value - half, value + half)


def training(arms: Arms) -> ReportSection:
    """1. Does staged training help, and where?"""
    shown = [(model, arm) for model in TRAINED if (arm := arms.get((model, "single"))) is not None]
    skills = {unit.skill for _, arm in shown for unit in units(arm)}
    kinds = [kind for kind in _KINDS if any(map(kind[1], skills))]
    types: list[_Kind] = [(name, name.__eq__) for name in TYPES if name in skills]
    rows = [
        (Cell(name), *(score_cell(mean_with_interval(units(arm, keep))) for _, arm in shown))
        for name, keep in (*kinds, *types)
    ]
    sentences = []
    staged = arms.get(("mini", "single"))
    for other in ("mini-direct", "mini-untagged"):
        arm = arms.get((other, "single"))
        if staged is None or arm is None:
            continue
        by_kind = {name: paired(units(arm, keep), units(staged, keep)) for name, keep in kinds}
        against = f"Staged against {other.removeprefix('mini-')}"
        for name, found in by_kind.items():
            result = f"all questions: {outcome(found)}" if name == "all" else f"{name}: {points(found)}"
            sentences.append(f"{against}, {result}.")
        if len(by_kind) == len(_KINDS):
            more = excess(by_kind["reasoning"], by_kind["perception"])
            sentences.append(f"{against}, what reasoning gains beyond perception: {outcome(more)}.")
    head = ("type", *(model for model, _ in shown))
    table = ReportTable("Three ways of training, one sampled pass", head, tuple(rows), note=NOTE)
    paper = (
        "The paper finds large gains over training on the bare answers where reasoning is needed (on MMStar "
        "logic 52.0 to 58.0, math 51.6 to 64.0, science 40.0 to 44.8) and small ones for perception (coarse "
        "68.4 to 68.8, fine 48.0 to 46.8). Tags are worth 1.3 points of its mean over six benchmarks."
    )
    return ReportSection("1. Does staged training help?", (*sentences, table, paper))


def scaling(arms: Arms, model: str) -> ReportSection:
    """2. Does stage-level beam search scale?"""
    single, greedy = arms.get((model, "single")), arms.get((model, "greedy"))
    searches = _family(arms, model, "stage-beam")
    sentences, rows = [], []
    assert single is not None
    named = [("single (N = 1)", single), *((arm.method, arm) for arm in searches), ("greedy", greedy)]
    for name, arm in named:
        if arm is None:
            continue
        change = None if arm is single else paired(units(single), units(arm))
        score = score_cell(mean_with_interval(units(arm)))
        rows.append((Cell(name), score, _against(change), Cell(_tokens(arm))))
        if change is not None and arm in (searches[0], searches[-1]):
            sentences.append(f"{arm.method} against one sampled pass: {outcome(change)}.")
    if greedy is not None and searches:
        found = paired(units(greedy), units(searches[-1]))
        sentences.append(f"{searches[-1].method} against one greedy pass: {outcome(found)}.")
    if len(searches) > 1:
        found = paired(units(searches[0]), units(searches[-1]))
        sentences.append(f"From N = {searches[0].n} to N = {searches[-1].n}: {outcome(found)}.")
    head = ("method", "score", "against single", "tokens written")
    paper = "The paper, on MM-Vet: 60.3, 61.7, 62.3 and 62.9 for N = 1, 2, 3 and 4."
    table = ReportTable("Stage-level beam search over N", head, tuple(rows), note=NOTE)
    return ReportSection("2. Does stage-level beam search scale?", (*sentences, table, paper))


def methods(arms: Arms, model: str) -> ReportSection:
    """3. Stage-level search against the other ways to spend as much."""
    single = arms.get((model, "single"))
    families = {name: _family(arms, model, name) for name in _FAMILIES}
    sentences, rows, lines = [], [], []
    for name, members in families.items():
        line = [
            token_point(arm, cost.written)
            for arm in ([single] if single is not None else []) + members
            if (cost := cost_of(arm)) is not None and cost.written
        ]
        if members and line:
            lines.append(PlotLine(name, tuple(line)))
    for arm in families["stage-beam"]:
        for name in _FAMILIES[1:]:
            for how, other in _comparable(families[name], arm):
                found = paired(units(other), units(arm))
                rows.append(
                    (
                        Cell(arm.method, f"{_tokens(arm)} tokens"),
                        Cell(other.method, f"{_tokens(other)} tokens"),
                        Cell(how),
                        _against(found),
                    )
                )
                if arm.n == 4 or arm is families["stage-beam"][-1]:
                    sentences.append(f"{arm.method} against {other.method} ({how}): {outcome(found)}.")
    head = ("stage-level", "against", "", "difference")
    note = f"{NOTE} At equal tokens: the one of its family whose tokens are nearest, at most a third away."
    table = ReportTable("Side by side", head, tuple(rows), names=3, note=note)
    plot = LinePlot(
        name="reproduce-methods",
        title="Score by tokens, each method over N",
        alt="Score by tokens",
        lines=tuple(lines),
        x_name="tokens written a question",
        note="The numbers at the points are N.",
    )
    paper = (
        "The paper, on MM-Vet: one pass 60.3, best-of-10 60.9, sentence-level with N = 2 58.4, stage-level "
        "with N = 4 62.9."
    )
    return ReportSection("3. Stage-level search against the others", (*sentences, plot, table, paper))


def judges(arms: Arms, model: str, judging: Mapping[Arm, ArmJudging]) -> ReportSection:
    """4. Which judge?"""
    rows, sentences = [], []
    for base in ("stage-beam-4", "best-of-4"):
        own = arms.get((model, base))
        others = {judge: arms.get((model, f"{base}@{judge}")) for judge in _JUDGES}
        if own is None or not any(others.values()):
            continue
        for judge, arm in {"self": own, **others}.items():
            if arm is None:
                continue
            change = None if arm is own else paired(units(own), units(arm))
            score = score_cell(mean_with_interval(units(arm)))
            ordered = _ordered(judging.get(arm))
            rows.append((*cells(base, judge), score, _against(change), ordered, Cell(_tokens(arm))))
            if change is not None:
                ceiling = "The ceiling, a judge that knows the truth"
                name = ceiling if judge == "verifier" else f"The judge {judge}"
                sentences.append(f"{name}, against the self-judge in {base}: {points(change)}.")
        if own in judging and (even := even_units(judging[own])):
            blind = score_cell(mean_with_interval(even)), *cells("–", "–", "–")
            rows.append((*cells(base, "none: an even choice"), *blind))
    head = ("method", "judge", "score", "against self", "pairs ordered", "tokens written")
    note = (
        f"{NOTE} Pairs ordered: of the right and the wrong answers to one question that were compared, the "
        "share in which the judge prefers the right one. An even choice takes each different answer with "
        "equal chance, as a judge does that knows nothing."
    )
    table = ReportTable("One search, several judges", head, tuple(rows), names=2, note=note)
    paper = "The paper judges by the model itself alone."
    return ReportSection("4. Which judge?", (*sentences, table, paper))


def _ordered(judging: ArmJudging | None) -> Cell:
    share = None if judging is None else share_ordered(judging.pairs)
    return Cell("–") if share is None else score_cell(share)


def baselines(arms: Arms) -> ReportSection | None:
    """6. How do the baselines compare? None if none was run, of any model."""
    names = {method for group in BASELINES for method in group.methods}
    shown = [arm for (_, method), arm in arms.items() if method in names]
    if not shown:
        return None
    shown += [
        arm for (model, method), arm in arms.items() if method in _REFERENCES and model == shown[0].model
    ]
    ranked = sorted(((mean_with_interval(units(arm)), arm) for arm in shown), key=lambda one: -one[0].value)
    rows = []
    for score, arm in ranked:
        references = (arms.get((arm.model, method)) for method in _REFERENCES)
        changes = (
            Cell("–") if base is None or base is arm else _against(paired(units(base), units(arm)))
            for base in references
        )
        cost = cost_of(arm)
        costs = cells("–", "–") if cost is None else cells(amount(cost.calls), amount(cost.written))
        rows.append((*cells(arm.method, arm.model), score_cell(score), *changes, *costs))
    against = (f"against {method}" for method in _REFERENCES)
    head = ("method", "model", "score", *against, "calls", "tokens written")
    table = ReportTable("All of them, by score", head, tuple(rows), names=2, note=NOTE)
    plot = BarPlot(
        name="reproduce-baselines",
        title="Score by method, with 95% intervals",
        alt="Score by method",
        groups=tuple(
            BarGroup(arm.method if arm.model == shown[0].model else f"{arm.method} ({arm.model})", (score,))
            for score, arm in ranked
        ),
        series=("score",),
    )
    sentences = [
        f"{arm.method} of {arm.model}: {number(score.value)} ({interval(score)})." for score, arm in ranked
    ]
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


def _against(change: PairedDifference | None) -> Cell:
    return Cell("baseline") if change is None else Cell(signed(change.value), signed_interval(change))


def _tokens(arm: Arm) -> str:
    cost = cost_of(arm)
    return amount(None if cost is None else cost.written)
