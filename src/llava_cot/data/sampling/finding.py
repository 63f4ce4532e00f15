"""The candidates of a draw: their order, and how they are examined: pictures read, benchmarks compared."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from llava_cot.core.files import path_inside
from llava_cot.data.overlap import (
    BenchmarkIndex,
    ExaminedPicture,
    Fingerprint,
    batches,
    examine_pictures,
    fingerprints,
    question_key,
)
from llava_cot.data.record import Picture, Record, digest, holds_picture, place_picture, to_json
from llava_cot.data.store import Store
from llava_cot.errors import DataError

FOLDER = "images"
_BATCH = 64  # records whose pictures are in memory together


class SamplingProgress(Protocol):
    """A callback: what is being done, how much of it is done, and the total if that is known."""

    def __call__(self, what: str, done: int, total: int | None = None) -> None: ...


@dataclass(frozen=True)
class Finder:
    """Examines records of sources and puts their pictures into a folder.

    What it finds out is in the store, so that a draw can be resumed. Pictures are compared by their looks
    only if `perceptual`, which benchmarks need.
    """

    folder: Path
    store: Store
    pool: ThreadPoolExecutor
    on_progress: SamplingProgress
    perceptual: bool
    _benchmarks: BenchmarkIndex = field(default_factory=BenchmarkIndex)
    _placed: dict[str, str] = field(default_factory=dict)  # pictures' paths in the folder, and their sources

    def exclude(self, name: str, records: Iterable[Record]) -> int:
        """Read a benchmark; returns its number of records. Raises DataError if a picture cannot be read."""
        done = 0
        for batch in batches(records, _BATCH):
            self._benchmarks.add_all(name, batch, self._examine(f"exclude {name}", batch))
            done += len(batch)
            self.on_progress(f"{name}: reading", done)
        return done

    def find_out(self, label: str, records: Iterable[Record], chosen: frozenset[Place], seed: int) -> None:
        """Examine the chosen ones of a source's records that are not known yet."""
        with self.store.reading():
            known = {bytes.fromhex(key) for key in self.store.keys(f"record {label}")}
        done, total = len(chosen & known), len(chosen)
        self.on_progress(f"{label}: pictures", done, total)
        for batch in batches(_at_places(label, records, set(chosen - known), seed), _BATCH):
            found = self._examine(label, [record for _, record in batch])
            fresh = [self._candidate(label, at, record, found) for at, record in batch]
            values = ((it.place.hex(), [it.rejected, it.content, it.line]) for it in fresh)
            self.store.put_all(f"record {label}", values)
            done += len(batch)
            self.on_progress(f"{label}: pictures", done, total)

    def _examine(self, label: str, records: list[Record]) -> dict[str, ExaminedPicture]:
        """The fingerprints of pictures by name, saved at once."""
        names = {picture.name for record in records for picture in record.pictures}
        saved = ((name, self.store.get(name, f"picture {label}")) for name in names)
        with self.store.reading():
            known = {name: Fingerprint(it[0], int(it[1], 16)) for name, it in saved if it is not None}
        found = examine_pictures(records, self.pool, known=known, perceptual=self.perceptual)
        fresh = ((name, it.fingerprint) for name, it in found.items() if name not in known)
        values = ((name, [it.sha256, f"{it.phash:x}"]) for name, it in fresh if it is not None)
        self.store.put_all(f"picture {label}", values)
        return found

    def _candidate(
        self, label: str, at: Place, record: Record, found: dict[str, ExaminedPicture]
    ) -> DrawCandidate:
        """What is known of a record; its pictures are put into the folder unless it is rejected."""
        prints = fingerprints(record, found)
        if len(prints) < len(record.pictures):
            return DrawCandidate(at, "unreadable", "", "")
        overlap = self._benchmarks.overlap(record, prints)
        if overlap is not None:
            return DrawCandidate(at, overlap, "", "")
        for picture in record.pictures:
            self._place(label, picture, found[picture.name].data)
        pictures = tuple(replace(picture, name=_path_of(picture.name)) for picture in record.pictures)
        content = repr((sorted(it.sha256 for it in prints), question_key(record)))
        line = json.dumps(to_json(replace(record, pictures=pictures)))
        return DrawCandidate(at, "", digest(content).hex(), line)

    def _place(self, label: str, picture: Picture, data: bytes | None) -> None:
        path = _path_of(picture.name)
        if self._placed.get(path) == label:
            return
        target = path_inside(self.folder, path)
        if not target.exists():
            place_picture(picture, target, data)
        elif not holds_picture(target, picture):
            raise DataError(
                f"two sources have different pictures called {picture.name}; give one of the sources a `name`"
            )
        self._placed[path] = label


def _path_of(name: str) -> str:
    return f"{FOLDER}/{name.removeprefix(FOLDER + '/')}"


def _at_places(
    label: str, records: Iterable[Record], places: set[Place], seed: int
) -> Iterator[tuple[Place, Record]]:
    """The records at the given places, each once; reading ends with the last of them."""
    if not places:
        return
    for record in records:
        at = place(seed, label, record)
        if at in places:
            places.remove(at)
            yield at, record
            if not places:
                return


Place = bytes  # 16 of them; records are drawn in their order


def place(seed: int, label: str, record: Record) -> Place:
    """The record's place in the order of its source, by a hash of id, questions and pictures' names.

    A draw so depends on the seed and the records alone, not on their order, and a draw of more records begins
    with a draw of fewer. The id alone would not do, since public files repeat ids.
    """
    questions = tuple(turn.question for turn in record.turns)
    content = (seed, label, record.id, questions, tuple(picture.name for picture in record.pictures))
    return digest(repr(content))


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
    """A record that was examined, as a line of JSON; `content` is a hash that is equal for duplicates."""

    place: Place
    rejected: str  # why: "picture" or "text" (of a benchmark), "unreadable", or empty
    content: str
    line: str


def examined(store: Store, label: str) -> Iterator[DrawCandidate]:
    """The records of a source that a `Finder` has examined, by their places."""
    for key, value in store.items(f"record {label}", by_key=True):
        with store.reading():
            candidate = DrawCandidate(bytes.fromhex(key), *value)
        yield candidate


def examined_line(store: Store, label: str, place: Place) -> str:
    """The line of JSON of a record that a `Finder` has examined."""
    with store.reading():
        return str(store.get(place.hex(), f"record {label}")[2])
