"""What the paper reports, for the benchmarks that one's own runs are of.

Owns the reading of `paper.yaml`, which has the figures and where each stands. They are laid beside one's own
and marked as reported; nothing is computed from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

MARK = "as reported (arXiv 2411.10440, {source})"


@dataclass(frozen=True)
class Reported:
    """A line of the paper, in percent; `scores` by our benchmark's name, or by skill."""

    model: str
    method: str
    source: str
    scores: Mapping[str, float] = field(default_factory=dict)


def reported(benchmarks: Sequence[str]) -> list[Reported]:
    """The paper's results on these benchmarks; a line that has none of them is left out."""
    found = []
    for table in _read()["results"]:
        for row in table["rows"]:
            scores = dict(zip(table["benchmarks"], row["scores"], strict=True))
            shown = {name: one for name, one in scores.items() if name in benchmarks and one is not None}
            if shown:
                found.append(
                    Reported(row["model"], row["method"], MARK.format(source=table["source"]), shown)
                )
    return found


def reported_skills(benchmark: str) -> list[Reported]:
    """The paper's results on a benchmark by skill."""
    return [
        Reported(
            row["model"],
            row["method"],
            MARK.format(source=table["source"]),
            dict(zip(table["skills"], row["scores"], strict=True)),
        )
        for table in _read()["skills"]
        if table["benchmark"] == benchmark
        for row in table["rows"]
    ]


@cache
def _read() -> dict[str, Any]:
    import yaml

    text = files("llava_cot.evaluation.report").joinpath("paper.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found
