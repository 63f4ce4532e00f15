"""The progress display of every long-running command: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from llava_cot.core.wording import one_line
from llava_cot.view.console import CleanConsole

_REDRAW = 0.1  # seconds between two updates of the bar


class ProgressDisplay:
    """Shows how far long work is, on standard error. A context manager.

    Call it with the name of a step for work of several steps, or call `update` for one long count. In a
    terminal both draw a bar; in a file or a pipe they print a line every `interval` seconds.

    Args:
        unit: What is counted, in the plural, such as "answers".
        total: How many there are, where that is known from the start.
        quiet: Show nothing at all, not even notes.
        resume_with: The command that continues the work after an interrupt, to be named then, such as "the
            same command"; empty where nothing continues it.
        interval: Seconds between two lines where there is no terminal.
        console: Where to show it.
    """

    def __init__(
        self,
        unit: str = "",
        total: int | None = None,
        *,
        quiet: bool = False,
        resume_with: str = "",
        interval: float = 30.0,
        console: Console | None = None,
    ) -> None:
        self._unit, self._total, self._resume_with = unit, total, resume_with
        self._console = console or CleanConsole(error=True, quiet=quiet)
        self._terminal = self._console.is_terminal
        self._interval = _REDRAW if self._terminal else interval
        self._bar = Progress(
            TextColumn("{task.fields[step]}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            transient=True,
            disable=not self._terminal or self._console.quiet,
        )
        self._task: TaskID | None = None
        self._step: str | None = None
        self._began = self._shown = time.monotonic()
        self._first = 0

    def __enter__(self) -> Self:
        self._start_step("", 0)
        self._bar.start()
        return self

    def __exit__(self, kind: object, error: object, where: object) -> None:
        self._bar.stop()
        if self._resume_with and isinstance(error, KeyboardInterrupt):
            self.note(f"interrupted; finished work is kept, and {self._resume_with} resumes it")

    def __call__(
        self,
        what: str,
        done: int,
        total: int | None = None,
        *,
        details: Iterable[str] = (),
        now: bool = False,
    ) -> None:
        """Show the progress of the step named `what`; another name starts the next step, and its clock."""
        if what != self._step:
            self._start_step(what, done)
        self.update(done, total, fresh=done - self._first, details=details, now=now)

    def update(
        self,
        done: int,
        total: int | None = None,
        *,
        fresh: int | None = None,
        failed: int = 0,
        usd: float = 0.0,
        details: Iterable[str] = (),
        now: bool = False,
    ) -> None:
        """Show the progress of a count.

        Args:
            done: How many are done, those of earlier runs among them.
            total: How many there are; by default, as before.
            fresh: How many this run has done, for rate and time left; by default, all that are done.
            failed: How many failed in this run.
            usd: The money spent, in US dollars.
            details: What else to say, least important last, since a narrow terminal cuts it off.
            now: Show it even if the last update was a moment ago.
        """
        self._total = self._total if total is None else total
        time_now = time.monotonic()
        if not now and time_now - self._shown < self._interval:
            return
        self._shown = time_now
        text = progress_text(
            done, self._total, time_now - self._began, unit=self._unit,
            fresh=done if fresh is None else fresh, failed=failed, usd=usd, details=details,
        )  # fmt: skip
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=self._total, description=text)
        if not self._terminal:
            self._console.out(f"{self._step}: {text}" if self._step else text, highlight=False)

    def note(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.out(one_line(line), highlight=False)

    def notes(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._console.out(line, highlight=False)

    def interrupting(self) -> None:
        """Say what happens after a first interrupt: the answers in flight are waited for."""
        self.note("no new questions are sent; waiting for answers that may be billed (Ctrl-C: stop now)")

    def _start_step(self, step: str, done: int) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task("starting", total=self._total, step=step)
        self._step, self._first, self._began = step, done, time.monotonic()
        self._shown = 0.0 if self._terminal else self._began


def progress_text(
    done: int,
    total: int | None,
    seconds: float,
    *,
    unit: str = "",
    fresh: int = 0,
    failed: int = 0,
    usd: float = 0.0,
    details: Iterable[str] = (),
) -> str:
    """The text of a progress line: count, rate, time left, failures, money, details."""
    count = f"{done:,}" if total is None else f"{done:,} of {total:,}"
    left = 0 if total is None else total - done - failed
    parts = [f"{count} {unit}".rstrip(), *rate_and_time_left(fresh, seconds, left)]
    parts.append(f"{failed:,} failed" if failed else "")
    parts.append(f"${usd:,.2f}" if usd else "")
    return " · ".join(filter(None, [*parts, *details]))


def rate_and_time_left(fresh: int, seconds: float, left: int) -> tuple[str, str]:
    """The rate of this run and the time left at that rate; empty where they are not known."""
    rate = fresh / seconds if seconds > 0 else 0.0
    if not rate:
        return "", ""
    shown = f"{60 * rate:,.0f} a minute" if rate < 10 else f"{rate:,.0f} a second"
    return shown, f"{_duration(left / rate)} left" if left > 0 else ""


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
