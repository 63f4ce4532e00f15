"""What a page to look through a data folder shows: some of its records, checked, and of what was rejected.

Owns the choice, which is by chance and the same for the same seed. Knows no HTML.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from llava_cot.data.checks.check import CheckedLine, CheckReport, examine
from llava_cot.data.reading import data_file

T = TypeVar("T")


@dataclass(frozen=True)
class DataView:
    """The report of the whole folder, and the lines that were chosen, in their order.

    `rejects` are lines of `rejects.jsonl`, if there is one, of `rejected` in all.
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
    on_progress: Callable[[int], None] | None = None,
) -> DataView:
    """Check a folder and choose `count` of its lines. All is checked, for a line may repeat an earlier one.

    Keeps only what is chosen. Raises DataError as `reading.data_file` does.
    """
    report = CheckReport(data_file(folder))

    def lines() -> Iterable[CheckedLine]:
        for examined in examine(report.file):
            report.add(examined)
            if on_progress:
                on_progress(examined.line.end)
            if examined.findings or not only_findings:
                yield examined

    chosen, _ = _drawn(lines(), count, random.Random(seed))
    rejects, rejected = _drawn(_rejects(folder / "rejects.jsonl"), count, random.Random(seed))
    return DataView(report, tuple(chosen), tuple(rejects), rejected)


def _drawn(things: Iterable[T], count: int, rng: random.Random) -> tuple[list[T], int]:
    """`count` of the things, each set of them as likely as any other, in their order; and how many there are.

    Reservoir sampling (Vitter, 1985, algorithm R).
    """
    kept: list[tuple[int, T]] = []
    number = -1
    for number, thing in enumerate(things):
        if len(kept) < count:
            kept.append((number, thing))
        elif (place := rng.randrange(number + 1)) < count:
            kept[place] = (number, thing)
    return [thing for _, thing in sorted(kept, key=lambda item: item[0])], number + 1


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
