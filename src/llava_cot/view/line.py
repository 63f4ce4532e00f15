"""One line that says how far long work is: a bar in a terminal, printed now and then in a file or a pipe.

Owns when it is drawn, and the words for time. What it says is its user's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from llava_cot.core.text import one_line

_DRAWN, _PRINTED = 0.1, 30.0  # seconds between two


class ProgressLine:
    """A context manager; the bar is there inside. `total` may be set before the first `show`."""

    def __init__(self, console: Console, total: int) -> None:
        self.total = total
        self._console = console
        self._began = time.monotonic()
        self._last = 0.0 if console.is_terminal else self._began
        self._bar = Bar(
            BarColumn(), TextColumn("{task.description}", markup=False), console=console, transient=True
        )
        self._task = self._bar.add_task("starting", total=total)

    def show(self, done: int, told: Callable[[float], str]) -> None:
        """Show what `told` says, given the seconds since the beginning; often enough is often enough."""
        now = time.monotonic()
        if now - self._last < (_DRAWN if self._console.is_terminal else _PRINTED):
            return
        self._last = now
        line = told(now - self._began)
        if self._console.is_terminal:
            self._bar.update(self._task, completed=done, total=self.total, description=line)
        else:
            self._console.out(line, highlight=False)

    def note(self, line: str) -> None:
        self._console.out(one_line(line), highlight=False)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()


def pace(fresh: int, seconds: float, left: int) -> tuple[str, str]:
    """The rate of this run, and the time left at that rate; empty where they are not known."""
    rate = fresh / seconds if seconds > 0 else 0.0
    if not rate:
        return "", ""
    told = f"{60 * rate:,.0f} a minute" if rate < 10 else f"{rate:,.0f} a second"
    return told, f"{duration(left / rate)} left" if left > 0 else ""


def duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
