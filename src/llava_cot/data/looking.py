"""Looking at pictures, several at a time, in the order they were asked for.

Owns the processes and how many pictures wait in them. Knows no record: what is looked at is a file.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from llava_cot.images import ImageError, load_image

T = TypeVar("T")

# For each process, so that none is idle while the first in the row takes long, and memory stays small.
_WAITING = 16


@dataclass(frozen=True)
class Look:
    """What a picture's file is: the hash of its pixels, or what is wrong with it.

    `phash` is `overlap.perceptual_hash`, where it was asked for. `missing` says that there is no such file.
    """

    sha256: str = ""
    phash: int | None = None
    problem: str = ""
    missing: bool = False


def look(name: str, file: Path, perceptual: bool) -> Look:
    """Read one picture, by the limits of `images.load_image`. Raises DataError without imagehash."""
    if not file.is_file():
        return Look(problem=f"there is no file {name}", missing=True)
    try:
        image = load_image(file, name=name)
    except ImageError as error:
        return Look(problem=str(error))
    if not perceptual:
        return Look(image.sha256)
    from llava_cot.data.overlap import perceptual_hash

    return Look(image.sha256, perceptual_hash(image.pil))


def look_at_all(
    things: Iterable[tuple[T, Sequence[tuple[str, Path]]]], *, perceptual: bool = False, processes: int = 1
) -> Iterator[tuple[T, list[Look]]]:
    """Each thing with looks at its pictures (name, file), lazily and in the order given.

    With one process that is this one. More are started as spawned, so a script that asks for them must guard
    its main part (`if __name__ == "__main__"`).
    """
    if processes <= 1:
        for thing, pictures in things:
            yield thing, [look(name, file, perceptual) for name, file in pictures]
        return
    waiting: deque[tuple[T, list[Future[Look]]]] = deque()
    with _pool(processes) as pool:
        for thing, pictures in things:
            looks = [pool.submit(look, name, file, perceptual) for name, file in pictures]
            waiting.append((thing, looks))
            if len(waiting) >= _WAITING * processes:
                yield _done(waiting)
        while waiting:
            yield _done(waiting)


def _done(waiting: deque[tuple[T, list[Future[Look]]]]) -> tuple[T, list[Look]]:
    thing, looks = waiting.popleft()
    return thing, [future.result() for future in looks]


@contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    # Spawned and not forked: the threads of a progress bar would be cut in two.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _ignore_interrupts)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _ignore_interrupts() -> None:
    """An interrupt is sent to all of a terminal's processes; the first one ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def usual_processes() -> int:
    """One for each core that this process may use, up to 8: a disk seldom feeds more."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)
