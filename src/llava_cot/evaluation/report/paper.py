"""The paper's own results, for the benchmarks of a report. Nothing is computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

SOURCE = "as reported (arXiv 2411.10440, {source})"


@dataclass(frozen=True)
class PaperResult:
    """A row of the paper, in percent; `scores` by benchmark, or by skill."""

    model: str
    method: str
    source: str
    scores: Mapping[str, float] = field(default_factory=dict)


def paper_results(benchmarks: Sequence[str]) -> list[PaperResult]:
    """Return the paper's results on these benchmarks; a row that has none of them is left out."""
    found = []
    for table in _read()["results"]:
        for row in table["rows"]:
            scores = dict(zip(table["benchmarks"], row["scores"], strict=True))
            shown = {name: one for name, one in scores.items() if name in benchmarks and one is not None}
            if shown:
                source = SOURCE.format(source=table["source"])
                found.append(PaperResult(row["model"], row["method"], source, shown))
    return found


def paper_skills(benchmark: str) -> list[PaperResult]:
    """Return the paper's results on a benchmark by skill."""
    return [
        PaperResult(
            row["model"],
            row["method"],
            SOURCE.format(source=table["source"]),
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
