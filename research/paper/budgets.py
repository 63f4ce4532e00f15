"""5. Does it help to spend more on some questions than on others?

An adaptive method is compared with the same method with as many candidates for every question, at the same
mean number of tokens. Between two values of N that is the line between them: using the larger N for a random
share of the questions gives that score for these tokens, on average.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from llava_cot.evaluation.report.arms import Arm, cost_of
from llava_cot.evaluation.report.document import (
    Cell,
    LinePlot,
    PlotLine,
    ReportSection,
    ReportTable,
    amount,
    score_cell,
    share,
    signed,
    signed_interval,
)
from llava_cot.evaluation.statistics import PairedDifference, mean_with_interval, paired
from llava_cot.evaluation.types import Unit
from llava_cot.search.request import Spec
from research.paper.claims import NOTE, Arms, points, token_point, units

_ADAPTIVE = "adaptive-"
_NEAR = 1 / 3  # how far tokens may be apart, as a share, where there is nothing on one side


@dataclass(frozen=True)
class FixedLevel:
    """What a fixed number of candidates scores at some number of tokens: `name` says of which arms it is."""

    name: str
    units: Sequence[Unit]


def adaptive_arms(arms: Arms, model: str) -> list[Arm]:
    """Return the arms that spend by the question and whose tokens are known, by family and N or budget."""
    found = [arm for (name, _), arm in arms.items() if name == model and fixed_spec(arm) and _tokens(arm)]
    return sorted(found, key=lambda arm: (arm.family, arm.n, arm.budget or 0))


def fixed_spec(arm: Arm) -> Spec | None:
    """Return the same method with as many candidates for every question; None if the arm is that."""
    spec = arm.spec
    if spec is None:
        return None
    if spec.method.startswith(_ADAPTIVE):
        return replace(spec, method=spec.method.removeprefix(_ADAPTIVE))
    return None if spec.budget is None else replace(spec, budget=None)


def adaptive(arms: Arms, model: str) -> ReportSection:
    """Return the section on all adaptive arms of a model, of which there is at least one."""
    sentences, rows = [], []
    shown = adaptive_arms(arms, model)
    for arm in shown:
        cost, spec = cost_of(arm), fixed_spec(arm)
        assert cost is not None and spec is not None
        level = level_at(cost.written, ladder(arms, model, spec))
        equal = None if level is None else paired(level.units, units(arm))
        full = arms.get((model, spec.name))
        change = paired(units(full), units(arm)) if full is not None and _tokens(full) else None
        rows.append(
            (
                Cell(arm.method),
                Cell(amount(cost.candidates)),
                Cell(amount(cost.written)),
                score_cell(mean_with_interval(units(arm))),
                _difference(equal, "" if level is None else level.name),
                _difference(change, "" if full is None else _share(arm, full)),
            )
        )
        if level is not None and equal is not None:
            sentences.append(f"{arm.method} against {level.name}, at equal tokens: {_outcome(equal)}.")
        if full is not None and change is not None:
            sentences.append(
                f"{arm.method} against {full.method}: {points(change)}, for {_share(arm, full)}."
            )
    head = ("method", "candidates", "tokens written", "score", "at equal tokens", "against as many always")
    note = (
        f"{NOTE} Candidates and tokens are means over the questions. At equal tokens: the line between the "
        "two numbers of candidates whose tokens are below and above, question by question; if there are none "
        "below or above, the nearest, at most a third away. One sampled pass is N = 1 of every method."
    )
    table = ReportTable("Candidates by the question", head, tuple(rows), note=note)
    plot = LinePlot(
        name="reproduce-adaptive",
        title="Score by tokens, adaptive and fixed",
        alt="Score by tokens",
        lines=tuple(_lines(arms, model, shown)),
        x_name="tokens written a question",
        note="The numbers are N or budgets.",
    )
    return ReportSection("5. Does an adaptive budget help?", (*sentences, plot, table))


def ladder(arms: Arms, model: str, spec: Spec) -> list[Arm]:
    """Return the arms of a fixed method and its judge over N, one sampled pass included."""
    return [
        arm
        for (name, method), arm in arms.items()
        if name == model
        and (method == "single" or (arm.spec is not None and replace(arm.spec, n=spec.n) == spec))
    ]


def level_at(tokens: float, fixed: Sequence[Arm]) -> FixedLevel | None:
    """Return what the fixed arms score at so many tokens; None where none of them is near."""
    priced = sorted(((_tokens(arm), arm) for arm in fixed if _tokens(arm)), key=lambda pair: pair[0])
    for (low, first), (high, second) in pairwise(priced):
        if low < tokens < high:
            weight = (tokens - low) / (high - low)
            name = f"the line between {first.method} and {second.method}"
            return FixedLevel(name, mixed(units(first), units(second), weight))
    if not priced:
        return None
    written, nearest = min(priced, key=lambda pair: abs(pair[0] - tokens))
    near = abs(written - tokens) <= _NEAR * tokens
    return FixedLevel(nearest.method, units(nearest)) if near else None


def mixed(a: Sequence[Unit], b: Sequence[Unit], weight: float) -> list[Unit]:
    """Return the expected value of each shared question if `b` answers it with this chance, and else `a`."""
    first, second = _by_key(a), _by_key(b)
    return [
        replace(unit, value=(1 - weight) * unit.value + weight * second[key].value)
        for key, unit in first.items()
        if key in second
    ]


def _by_key(found: Sequence[Unit]) -> dict[str, Unit]:
    """Return one unit a key, the mean of its seeds."""
    groups: dict[str, list[Unit]] = {}
    for unit in found:
        groups.setdefault(unit.key, []).append(unit)
    return {
        key: replace(same[0], value=sum(unit.value for unit in same) / len(same))
        for key, same in groups.items()
    }


def _lines(arms: Arms, model: str, shown: Sequence[Arm]) -> Iterator[PlotLine]:
    """Yield lines for the adaptive families, and the fixed ones that they are compared with."""
    groups: dict[str, list[Arm]] = {}
    for arm in shown:
        spec = fixed_spec(arm)
        assert spec is not None
        fixed = ladder(arms, model, spec)
        groups.setdefault(next((a.family for a in fixed if a.method != "single"), "single"), fixed)
        groups.setdefault(arm.family, []).append(arm)
    for name, members in groups.items():
        line = [token_point(arm, _tokens(arm)) for arm in members if _tokens(arm)]
        if line:
            yield PlotLine(name, tuple(sorted(line, key=lambda point: point.x)))


def _tokens(arm: Arm) -> float:
    """Tokens written a question; 0 where no question was answered."""
    cost = cost_of(arm)
    return 0.0 if cost is None else cost.written


def _share(arm: Arm, full: Arm) -> str:
    return f"{share(_tokens(arm), _tokens(full))} of its tokens"


def _difference(found: PairedDifference | None, below: str) -> Cell:
    return Cell("–") if found is None else Cell(signed(found.value), f"{signed_interval(found)}; {below}")


def _outcome(found: PairedDifference) -> str:
    if found.low <= 0 <= found.high:
        return f"{points(found)}: not distinguishable from zero"
    return f"{points(found)}: it {'helps' if found.value > 0 else 'does not help'}"
