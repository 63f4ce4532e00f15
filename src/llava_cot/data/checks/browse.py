"""The content of a page to look through a data folder: some of its records, checked, and of the rejects."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from llava_cot.data.checks.check import CheckedLine, CheckReport, check_lines
from llava_cot.data.reading import data_file

T = TypeVar("T")


@dataclass(frozen=True)
class DataView:
    """A part of a data folder.

    Attributes:
        report: Of the whole folder.
        chosen: The chosen lines, in their order.
        rejects: The chosen lines of `rejects.jsonl`, if there is one, of `rejected` in all.
    """

    report: CheckReport
    chosen: tuple[CheckedLine, ...]
    rejects: tuple[dict[str, Any], ...] = ()
    rejected: int = 0


def choose_lines(
    folder: Path,
    count: int,
    seed: int = 0,
    *,
    only_findings: bool = False,
    on_progress: Callable[[int], None] = lambda done: None,
) -> DataView:
    """Check a folder, all of it since a line may repeat an earlier one, and choose some of its lines.

    The choice is random, and the same for the same seed. Raises DataError if there is no data file.

    Args:
        folder: Holds `train.jsonl` or `questions.jsonl`.
        count: How many lines to choose at most.
        seed: Of the choice.
        only_findings: Choose only lines in which something was found.
        on_progress: Called with the number of bytes read.
    """
    report = CheckReport(data_file(folder))

    def lines() -> Iterable[CheckedLine]:
        for checked in check_lines(report.file):
            report.add(checked)
            on_progress(checked.line.end)
            if checked.findings or not only_findings:
                yield checked

    chosen, _ = _drawn(lines(), count, random.Random(seed))
    rejects, rejected = _drawn(_rejects(folder / "rejects.jsonl"), count, random.Random(seed))
    return DataView(report, tuple(chosen), tuple(rejects), rejected)


def _drawn(things: Iterable[T], count: int, rng: random.Random) -> tuple[list[T], int]:
    """`count` of the things, each set of them equally likely, in their order; and the number of all.

    Reservoir sampling (Vitter, 1985, algorithm R).
    """
    drawn: list[tuple[int, T]] = []
    number = -1
    for number, thing in enumerate(things):
        if len(drawn) < count:
            drawn.append((number, thing))
        elif (place := rng.randrange(number + 1)) < count:
            drawn[place] = (number, thing)
    return [thing for _, thing in sorted(drawn, key=lambda item: item[0])], number + 1


def _rejects(file: Path) -> Iterable[dict[str, Any]]:
    """The lines of a rejects file; one that cannot be read says so as its reason."""
    if not file.is_file():
        return
    with file.open("rb") as lines:
        for number, data in enumerate(lines, 1):
            if not data.strip():
                continue
            try:
                value = json.loads(data)
            except (ValueError, RecursionError):
                value = None
            yield value if isinstance(value, dict) else {"reason": f"line {number} is no JSON object"}
