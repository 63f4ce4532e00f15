"""What was found about each of the paper's claims: a sentence, a table, a plot.

Owns the comparisons and the words for how they came out. The figures come from `figures.py`; who is compared
is `tasks.py`'s subject. The paper is arXiv 2411.10440, its figures are those of its first version.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from llava_cot.evaluation.report.arms import Arm
from llava_cot.evaluation.report.costs import cost_of
from llava_cot.evaluation.report.document import (
    Cell,
    ReportPlot,
    ReportSection,
    ReportTable,
    amount,
    cells,
    interval,
    limits,
    number,
    signed,
)
from llava_cot.evaluation.report.lines import Line, Point, line_plot
from llava_cot.evaluation.reproduce.tasks import TRAINED
from llava_cot.evaluation.statistics import Estimate, PairedDifference, mean_with_interval, paired
from llava_cot.evaluation.types import Unit
from llava_cot.scenes.questions import PERCEPTION, REASONING, TYPES

Kind = tuple[str, Callable[[str], bool]]
_KINDS: tuple[Kind, ...] = (
    ("all", lambda skill: True),
    ("perception", PERCEPTION.__contains__),
    ("reasoning", REASONING.__contains__),
)
NOTE = "Percent right, with 95% intervals over the questions; seeds are averaged question by question."
_JUDGES = ("logits", "likelihood", "rules", "verifier")
FAMILIES = ("stage-beam", "best-of", "sentence-beam", "majority")


Arms = Mapping[tuple[str, str], Arm]  # of one benchmark, by model and method


def units(arm: Arm, keep: Callable[[str], bool] = lambda skill: True) -> list[Unit]:
    return [unit for metric in arm.headline for unit in metric.units if keep(unit.skill)]


def outcome(found: PairedDifference | Estimate) -> str:
    """Whether a difference goes where the paper's goes, which is up, as far as the interval tells."""
    told = _points(found)
    if found.low <= 0 <= found.high:
        return f"{told}: cannot be told from nothing"
    return f"{told}: {'as' if found.value > 0 else 'unlike'} the paper"


def beyond(a: PairedDifference, b: PairedDifference) -> Estimate:
    """How much larger a difference is than another, which is of other questions (normal intervals)."""
    value, half = a.value - b.value, math.hypot(a.high - a.low, b.high - b.low) / 2
    return Estimate(value, value - half, value + half)


def training(arms: Arms) -> ReportSection:
    """1. Does staged training help, and where?"""
    shown = [(model, arm) for model in TRAINED if (arm := arms.get((model, "single"))) is not None]
    rows = []
    asked = {unit.skill for _, arm in shown for unit in units(arm)}
    kinds = [kind for kind in _KINDS if any(map(kind[1], asked))]
    for name, keep in (*kinds, *((kind, kind.__eq__) for kind in TYPES if kind in asked)):
        row = [*cells(name)]
        for _, arm in shown:
            figure = mean_with_interval(units(arm, keep))
            row.append(Cell(number(figure.value), interval(figure)))
        rows.append(tuple(row))
    said = []
    staged = arms.get(("mini", "single"))
    for other in ("mini-direct", "mini-untagged"):
        arm = arms.get((other, "single"))
        if staged is None or arm is None:
            continue
        by_kind = {name: paired(units(arm, keep), units(staged, keep)) for name, keep in kinds}
        against = f"Staged against {other.removeprefix('mini-')}"
        for name, found in by_kind.items():
            told = f"all questions: {outcome(found)}" if name == "all" else f"{name}: {_points(found)}"
            said.append(f"{against}, {told}.")
        if len(by_kind) == len(_KINDS):
            more = beyond(by_kind["reasoning"], by_kind["perception"])
            said.append(f"{against}, what reasoning gains beyond perception: {outcome(more)}.")
    table = ReportTable(
        "Three ways of training, one sampled pass",
        ("type", *(model for model, _ in shown)),
        tuple(rows),
        note=NOTE,
    )
    paper = (
        "The paper finds large gains over training on the bare answers where there is something to work "
        "out (on MMStar logic 52.0 to 58.0, maths 51.6 to 64.0, science 40.0 to 44.8) and little where "
        "there is only something to see (coarse perception 68.4 to 68.8, fine 48.0 to 46.8). Tags are worth "
        "1.3 points of its mean over six benchmarks."
    )
    return ReportSection("1. Does staged training help?", (*said, table, paper))


def scaling(arms: Arms, model: str) -> ReportSection:
    """2. Does stage-level beam search scale?"""
    single, greedy = arms.get((model, "single")), arms.get((model, "greedy"))
    searched = _family(arms, model, "stage-beam")
    said, rows = [], []
    assert single is not None
    for name, arm in [
        ("single (N = 1)", single),
        *((arm.method, arm) for arm in searched),
        ("greedy", greedy),
    ]:
        if arm is None:
            continue
        figure = mean_with_interval(units(arm))
        change = None if arm is single else paired(units(single), units(arm))
        rows.append(
            (
                Cell(name),
                Cell(number(figure.value), interval(figure)),
                Cell("baseline" if change is None else signed(change.value), _limits(change)),
                Cell(_tokens(arm)),
            )
        )
        if change is not None and arm in (searched[0], searched[-1]):
            said.append(f"{arm.method} against one sampled pass: {outcome(change)}.")
    if greedy is not None and searched:
        found = paired(units(greedy), units(searched[-1]))
        said.append(f"{searched[-1].method} against one greedy pass: {outcome(found)}.")
    if len(searched) > 1:
        found = paired(units(searched[0]), units(searched[-1]))
        said.append(f"From N = {searched[0].n} to N = {searched[-1].n}: {outcome(found)}.")
    head = ("method", "score", "against single", "tokens written")
    paper = "The paper, on MM-Vet: 60.3, 61.7, 62.3 and 62.9 for N = 1, 2, 3 and 4."
    table = ReportTable("Stage-level beam search over N", head, tuple(rows), note=NOTE)
    return ReportSection("2. Does stage-level beam search scale?", (*said, table, paper))


def methods(arms: Arms, model: str) -> ReportSection:
    """3. Stage-level search against the other ways to spend as much."""
    single = arms.get((model, "single"))
    families = {name: _family(arms, model, name) for name in FAMILIES}
    said, rows, lines = [], [], []
    for name, members in families.items():
        points = []
        for arm in ([single] if single is not None else []) + members:
            figure, cost = mean_with_interval(units(arm)), cost_of(arm)
            if cost is not None and cost.written:
                score = f"{number(figure.value)} ({interval(figure)})"
                told = f"{arm.method}: {score}, {amount(cost.written)} tokens"
                points.append(Point(cost.written, figure, str(arm.n) if arm.n > 1 else "", told))
        if members and points:
            lines.append(Line(name, tuple(points)))
    for arm in families["stage-beam"]:
        for name in FAMILIES[1:]:
            for how, other in _equals(families[name], arm):
                found = paired(units(other), units(arm))
                row = (
                    Cell(arm.method, f"{_tokens(arm)} tokens"),
                    Cell(other.method, f"{_tokens(other)} tokens"),
                    Cell(how),
                    Cell(signed(found.value), _limits(found)),
                )
                rows.append(row)
                if arm.n == 4 or arm is families["stage-beam"][-1]:
                    said.append(f"{arm.method} against {other.method} ({how}): {outcome(found)}.")
    head = ("stage-level", "against", "", "difference")
    note = f"{NOTE} At equal tokens: the one of its family whose tokens are nearest, at most a third away."
    table = ReportTable("Side by side", head, tuple(rows), names=3, note=note)
    drawn = line_plot(lines, title="Score by tokens", x_name="tokens written a question")
    plot = ReportPlot(
        "reproduce-methods", "Score by tokens, each method over N", drawn, "The numbers at the points are N."
    )
    paper = (
        "The paper, on MM-Vet: one pass 60.3, best-of-10 60.9, sentence-level with N = 2 58.4, stage-level "
        "with N = 4 62.9."
    )
    return ReportSection("3. Stage-level search against the others", (*said, plot, table, paper))


def judges(arms: Arms, model: str) -> ReportSection:
    """4. Which judge."""
    rows, said = [], []
    for base in ("stage-beam-4", "best-of-4"):
        own = arms.get((model, base))
        others = {judge: arms.get((model, f"{base}@{judge}")) for judge in _JUDGES}
        if own is None or not any(others.values()):
            continue
        for judge, arm in {"self": own, **others}.items():
            if arm is None:
                continue
            figure = mean_with_interval(units(arm))
            change = None if arm is own else paired(units(own), units(arm))
            rows.append(
                (
                    Cell(base),
                    Cell(judge),
                    Cell(number(figure.value), interval(figure)),
                    Cell("baseline" if change is None else signed(change.value), _limits(change)),
                    Cell(_tokens(arm)),
                )
            )
            if change is not None:
                what = (
                    "The ceiling, a judge that knows the truth"
                    if judge == "verifier"
                    else f"The judge {judge}"
                )
                said.append(f"{what}, against the self-judge in {base}: {_points(change)}.")
    head = ("method", "judge", "score", "against self", "tokens written")
    table = ReportTable("One search, several judges", head, tuple(rows), names=2, note=NOTE)
    return ReportSection("4. Which judge?", (*said, table, "The paper judges by the model itself alone."))


def _family(arms: Arms, model: str, name: str) -> list[Arm]:
    return sorted((a for (m, _), a in arms.items() if m == model and a.family == name), key=lambda arm: arm.n)


def _equals(others: Sequence[Arm], arm: Arm) -> Iterator[tuple[str, Arm]]:
    """Those of a family that an arm is compared with, and in what the two are alike."""
    same = next((other for other in others if other.n == arm.n), None)
    near = _near(others, arm)
    if same is not None:
        yield "at equal N and tokens" if same is near else "at equal N", same
    if near is not None and near is not same:
        yield "at equal tokens", near


def _near(others: Sequence[Arm], arm: Arm) -> Arm | None:
    """The arm with the nearest number of written tokens, if that is at most a third away."""
    cost = cost_of(arm)
    priced = [
        (abs(found.written - cost.written), other) for other in others if cost and (found := cost_of(other))
    ]
    if cost is None or not priced:
        return None
    away, other = min(priced, key=lambda pair: pair[0])
    return other if away <= cost.written / 3 else None


def _tokens(arm: Arm) -> str:
    cost = cost_of(arm)
    return amount(None if cost is None else cost.written)


def _limits(found: PairedDifference | None) -> str:
    return "" if found is None else limits(found)


def _points(found: PairedDifference | Estimate) -> str:
    return f"{signed(found.value)} points ({limits(found)})"
