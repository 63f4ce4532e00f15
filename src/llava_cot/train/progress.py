"""How far a run has come, on standard error: a bar in a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_EVERY = 10.0  # seconds between lines where there is no terminal


class Line:
    """Shows steps of a run, with loss, tokens a second and time left."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._bar: Progress | None = None
        self._task: Any = None
        self._first = self._shown = 0.0
        self._from = 0

    def start(self, step: int) -> None:
        self._first, self._from = time.monotonic(), step
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"),
                TimeRemainingColumn(), console=Console(stderr=True),
            )  # fmt: skip
            self._task = self._bar.add_task("", total=self._steps, completed=step)
            self._bar.start()

    def update(self, step: int, line: Mapping[str, Any]) -> None:
        told = ", ".join(_told(line))
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=told)
            return
        now = time.monotonic()
        if now - self._shown >= _EVERY or step == self._steps or "eval_loss" in line:
            self._shown = now
            left = (now - self._first) / max(1, step - self._from) * (self._steps - step)
            print(f"step {step}/{self._steps}: {told}, {_span(left)} left", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _told(line: Mapping[str, Any]) -> list[str]:
    told = [f"{what} {line[name]:.4f}" for name, what in _LOSSES.items() if name in line]
    if "tokens_per_second" in line:
        told.append(f"{line['tokens_per_second']:,.0f} tokens/s")
    return told


_LOSSES = {"loss": "loss", "eval_loss": "evaluation loss"}


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
