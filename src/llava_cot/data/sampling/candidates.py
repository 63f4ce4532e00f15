"""The candidates of a draw: their order, and what is known about those that were examined.

The order is a keyed hash of a record's id, questions and pictures' names. So a draw depends on the seed and
the records alone, not on their order, and a draw of more records begins with a draw of fewer.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from llava_cot.data.overlap import Fingerprint
from llava_cot.data.record import Record
from llava_cot.data.store import Store

Place = bytes  # 16 of them; records are drawn in their order


def place(seed: int, label: str, record: Record) -> Place:
    """The record's place in the order of its source. Not its id alone, since public files repeat ids."""
    questions = tuple(turn.question for turn in record.turns)
    content = (seed, label, record.id, questions, tuple(picture.name for picture in record.pictures))
    return hashlib.blake2b(repr(content).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def first(
    count: int | None, places: Iterable[Place], on_read: Callable[[int], None] = lambda read: None
) -> tuple[frozenset[Place], int]:
    """The `count` smallest places (all for None), and the number of places read.

    Equal places count once. Memory grows with `count`, not with the places.
    """
    heap: list[int] = []  # negative, the largest place on top
    chosen: set[int] = set()
    read = 0
    for found in places:
        read += 1
        if read % 1000 == 0:
            on_read(read)
        number = -int.from_bytes(found, "big")
        if number in chosen:
            continue
        if count is None or len(heap) < count:
            heapq.heappush(heap, number)
            chosen.add(number)
        elif number > heap[0]:
            chosen.add(number)
            chosen.remove(heapq.heapreplace(heap, number))
    on_read(read)
    return frozenset((-number).to_bytes(16, "big") for number in heap), read


@dataclass(frozen=True)
class DrawCandidate:
    """A record that was examined.

    Attributes:
        place: Where it is in the order of its source.
        rejected: Why it must not be drawn: "picture" or "text" (of a benchmark), "unreadable", or empty.
        content: A hash that is equal for duplicates.
        line: The record as JSON.
    """

    place: Place
    rejected: str
    content: str
    line: str


class ExaminedCandidates:
    """What is known about each source's records and pictures, in a store, so that a draw can be resumed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def places(self, label: str) -> set[Place]:
        """The places of the records that were examined."""
        return {bytes.fromhex(key) for key in self._store.keys(f"record {label}")}

    def add(self, label: str, candidates: Iterable[DrawCandidate]) -> None:
        """Save records of a source, all of them or none."""
        values = ((it.place.hex(), [it.rejected, it.content, it.line]) for it in candidates)
        self._store.put_all(f"record {label}", values)

    def add_pictures(self, label: str, pictures: Iterable[tuple[str, Fingerprint]]) -> None:
        """Save fingerprints of a source's pictures by name, all of them or none."""
        values = ((name, [found.sha256, f"{found.phash:x}"]) for name, found in pictures)
        self._store.put_all(f"picture {label}", values)

    def picture(self, label: str, name: str) -> Fingerprint | None:
        """The fingerprint of a picture that was examined."""
        found = self._store.get(name, f"picture {label}")
        return None if found is None else Fingerprint(found[0], int(found[1], 16))

    def in_order(self, label: str) -> Iterator[DrawCandidate]:
        """The source's records by their places."""
        for key, value in self._store.items(f"record {label}", by_key=True):
            yield DrawCandidate(bytes.fromhex(key), *value)

    def line(self, label: str, place: Place) -> str:
        """The line of JSON of a record that was examined."""
        return str(self._store.get(place.hex(), f"record {label}")[2])
