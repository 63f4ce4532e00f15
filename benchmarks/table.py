"""What was measured, and the ratios and tables made from it. Runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import mean, median
from typing import Any

from floor import Floor

from llava_cot.core.trace import Usage


@dataclass(frozen=True)
class Setting:
    """One line of the table: who answers, how, and how many questions at once."""

    who: str  # "published" or "ours"
    method: str
    n: int
    judge: str | None = None
    at_once: int = 1

    def __str__(self) -> str:
        judge = f", {self.judge}" if self.judge else ""
        return f"{self.who}, {self.method}{judge}, N = {self.n}, {self.at_once} at once"


@dataclass(frozen=True)
class Run:
    """One measurement. `seconds` and `usage` are for all its questions; `floors` has one for each, if any."""

    questions: int
    seconds: float
    usage: Usage
    floors: tuple[Floor, ...] = ()


@dataclass(frozen=True)
class Row:
    """A setting, measured: medians over its runs, for one question.

    Ratios: to a single pass of the same side, as many at once; how many times faster than the published
    procedure with the same N, one at a time (N = 1 is its single pass); to the floor, and to its steps
    alone. None where there is nothing to compare with.
    """

    setting: Setting
    questions: int
    runs: int
    seconds: float
    model_calls: float
    prompt_tokens: float
    completion_tokens: float
    floor: Floor | None
    to_single: float | None = None
    times_faster: float | None = None
    to_floor: float | None = None
    to_steps: float | None = None

    def as_json(self) -> dict[str, Any]:
        values = asdict(self)
        return {**values.pop("setting"), **values}


def rows(measured: dict[Setting, list[Run]]) -> list[Row]:
    """A row for each setting, in order."""
    plain = [_row(setting, runs) for setting, runs in measured.items()]
    single = {(r.setting.who, r.setting.at_once): r.seconds for r in plain if r.setting.method == "single"}
    published = {r.setting.n: r.seconds for r in plain if r.setting.who == "published"}
    return [
        replace(
            row,
            to_single=_ratio(row.seconds, single.get((row.setting.who, row.setting.at_once))),
            times_faster=_ratio(published[row.setting.n], row.seconds)
            if row.setting.who == "ours" and row.setting.n in published
            else None,
            to_floor=_ratio(row.seconds, row.floor.seconds) if row.floor else None,
            to_steps=_ratio(row.seconds, row.floor.steps) if row.floor else None,
        )
        for row in plain
    ]


def _row(setting: Setting, runs: Sequence[Run]) -> Row:
    def middle(value: Callable[[Run], float]) -> float:
        return median(value(run) / run.questions for run in runs)

    def under(value: Callable[[Floor], float]) -> float:
        return median(mean(value(floor) for floor in run.floors) for run in runs)

    return Row(
        setting,
        questions=runs[0].questions,
        runs=len(runs),
        seconds=middle(lambda run: run.seconds),
        model_calls=middle(lambda run: run.usage.model_calls),
        prompt_tokens=middle(lambda run: run.usage.prompt_tokens),
        completion_tokens=middle(lambda run: run.usage.completion_tokens),
        floor=Floor(under(lambda f: f.steps), under(lambda f: f.reading), under(lambda f: f.passes))
        if all(run.floors for run in runs)
        else None,
    )


def _ratio(a: float, b: float | None) -> float | None:
    return a / b if b else None


HEADER = (
    "| | judge | N | at once | questions | s a question | calls | prompt tokens | new tokens "
    "| x single pass | x faster than published | x floor | floor, s | its steps, s |"
)


def markdown(table: Iterable[Row]) -> str:
    """The table for people."""
    return "\n".join([HEADER, "| --- | --- |" + " ---: |" * 12, *map(_line, table)])


def _line(row: Row) -> str:
    setting, floor = row.setting, row.floor
    cells = [
        f"{setting.who}, {setting.method}",
        setting.judge or "",
        str(setting.n),
        str(setting.at_once),
        f"{row.questions} x {row.runs}",
        f"{row.seconds:.3f}",
        f"{row.model_calls:.1f}",
        f"{row.prompt_tokens:.0f}",
        f"{row.completion_tokens:.0f}",
        *(f"{x:.2f}" if x else "" for x in (row.to_single, row.times_faster, row.to_floor)),
        *(f"{x:.3f}" if x else "" for x in (floor and floor.seconds, floor and floor.steps)),
    ]
    return "| " + " | ".join(cells) + " |"
