"""The progress of annotating in a terminal: how much is done, how fast, for what money, how long it takes.

Owns the line. In a file or a pipe it is printed now and then, in a terminal it is a bar.
"""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from llava_cot.data.annotating.annotate import Progress
from llava_cot.data.annotating.job import Done
from llava_cot.show.words import one_line, plural

_DRAWN, _PRINTED = 0.1, 30.0  # seconds between two


class AnnotatingView:
    """Call it with each progress. `total` is how many records there are."""

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total = console, total
        self._began = time.monotonic()
        self._last = 0.0 if console.is_terminal else self._began
        self._bar = Bar(BarColumn(), TextColumn("{task.description}"), console=console, transient=True)
        self._task = self._bar.add_task("starting", total=total)

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last < (_DRAWN if self._console.is_terminal else _PRINTED):
            return
        self._last = now
        line = told(progress, self._total, now - self._began)
        if self._console.is_terminal:
            self._bar.update(self._task, completed=progress.done, description=line)
        else:
            self._console.out(line, highlight=False)

    def interrupted(self) -> None:
        self._note("nothing more is asked; waiting for answers that may be paid for (Ctrl-C: no waiting)")

    def end(self, folder: Path, done: Done) -> None:
        """What was written, and what is still owed."""
        summary = done.summary
        wrote = [plural(summary.records, "record"), f"{plural(summary.rejected.total(), 'turn')} rejected"]
        if done.cost.usd is not None:
            wrote.append(f"${done.cost.usd:,.2f} in all")
        self._note(f"wrote {folder}: {' · '.join(wrote)}")
        if summary.owed:
            why = f" ({done.end.why or f'{done.end.failed:,} failed'})"
            self._note(f"still owed: {plural(summary.owed, 'record')}{why}; the same command goes on")

    def _note(self, line: str) -> None:
        self._console.out(one_line(line), highlight=False)

    def __enter__(self) -> AnnotatingView:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()


def told(progress: Progress, total: int, seconds: float) -> str:
    """The line: records, rate, rejected turns, failures, money and time left (by the rate of this run)."""
    parts = [f"{progress.done:,} of {total:,} records"]
    rate = progress.fresh / seconds if seconds > 0 else 0.0
    if rate:
        parts.append(f"{60 * rate:,.0f} a minute" if rate < 10 else f"{rate:,.0f} a second")
    if progress.rejected:
        parts.append(f"{progress.rejected:,} of {progress.turns:,} turns rejected")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if progress.usd:
        parts.append(f"${progress.usd:,.2f}")
    left = total - progress.done - progress.failed
    if rate and left > 0:
        parts.append(f"{_duration(left / rate)} left")
    return " · ".join(parts)


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
