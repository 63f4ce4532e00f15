"""Drawing records by seed: each has a place in line, and the first so many are drawn.

Owns the line. Knows no source or file. A place is a keyed hash of a record's id, questions and pictures'
names, so that a draw depends on the seed and the records alone, not on their order, and a draw of more
begins with a draw of less.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable

from llava_cot.data.record import Record

Place = bytes  # 16 of them, in whose order records are drawn


def place(seed: int, label: str, record: Record) -> Place:
    """The record's place in its source's line, by more than its id, for public files repeat ids."""
    questions = tuple(turn.question for turn in record.turns)
    content = (seed, label, record.id, questions, tuple(picture.name for picture in record.pictures))
    return hashlib.blake2b(repr(content).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def first(
    count: int | None, places: Iterable[Place], on_read: Callable[[int], None] = lambda read: None
) -> tuple[frozenset[Place], int]:
    """The `count` smallest of the places (all for None), in memory for as many; and how many were read.

    Equal places count once.
    """
    heap: list[int] = []  # negative, the largest place on top
    kept: set[int] = set()
    read = 0
    for found in places:
        read += 1
        if read % 1000 == 0:
            on_read(read)
        number = -int.from_bytes(found, "big")
        if number in kept:
            continue
        if count is None or len(heap) < count:
            heapq.heappush(heap, number)
            kept.add(number)
        elif number > heap[0]:
            kept.add(number)
            kept.remove(heapq.heapreplace(heap, number))
    on_read(read)
    return frozenset((-number).to_bytes(16, "big") for number in heap), read
