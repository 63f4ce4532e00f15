"""The progress of annotating in a terminal: how much is done, how fast, for what money, how long it takes.

Owns what the line says.
"""

from __future__ import annotations

from pathlib import Path

from llava_cot.core.text import plural
from llava_cot.data.annotation.annotate import Progress
from llava_cot.data.annotation.job import Done
from llava_cot.view.line import ProgressLine, pace


class AnnotatingView(ProgressLine):
    """Call it with each progress. `total` is how many records there are."""

    def __call__(self, progress: Progress) -> None:
        self.show(progress.done, lambda seconds: told(progress, self.total, seconds))

    def interrupted(self) -> None:
        self.note("nothing more is asked; waiting for answers that may be paid for (Ctrl-C: no waiting)")

    def end(self, folder: Path, done: Done) -> None:
        """What was written, and what is still owed."""
        summary = done.summary
        wrote = [plural(summary.records, "record"), f"{plural(summary.rejected.total(), 'turn')} rejected"]
        if done.cost.usd is not None:
            wrote.append(f"${done.cost.usd:,.2f} in all")
        self.note(f"wrote {folder}: {' · '.join(wrote)}")
        if summary.owed:
            why = f" ({done.end.why or f'{done.end.failed:,} failed'})"
            self.note(f"still owed: {plural(summary.owed, 'record')}{why}; the same command goes on")


def told(progress: Progress, total: int, seconds: float) -> str:
    """The line: records, rate, rejected turns, failures, money and time left (by the rate of this run)."""
    rate, left = pace(progress.fresh, seconds, total - progress.done - progress.failed)
    parts = [f"{progress.done:,} of {total:,} records", rate]
    if progress.rejected:
        parts.append(f"{progress.rejected:,} of {progress.turns:,} turns rejected")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if progress.usd:
        parts.append(f"${progress.usd:,.2f}")
    return " · ".join(filter(None, [*parts, left]))
