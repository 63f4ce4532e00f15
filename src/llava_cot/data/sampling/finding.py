"""Examining candidates of a draw: pictures are read, compared with benchmarks' and put into the folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from llava_cot.core.files import path_inside
from llava_cot.data.overlap import (
    BenchmarkIndex,
    ExaminedPicture,
    Fingerprint,
    batches,
    examine_pictures,
    question_key,
)
from llava_cot.data.record import Picture, Record, holds_picture, place_picture, to_json
from llava_cot.data.sampling.candidates import DrawCandidate, ExaminedCandidates, Place, place
from llava_cot.errors import DataError

FOLDER = "images"
_BATCH = 64  # records whose pictures are in memory together


class SamplingProgress(Protocol):
    """A callback: what is being done, how much of it is done, and the total if that is known."""

    def __call__(self, what: str, done: int, total: int | None = None) -> None: ...


class Finder:
    """Examines records of sources, and remembers what it finds.

    Args:
        folder: Where pictures are put.
        known: What was found before.
        pool: The threads that read pictures.
        on_progress: Called after each batch.
        perceptual: Whether pictures will be compared with those of benchmarks at all.
    """

    def __init__(
        self,
        folder: Path,
        known: ExaminedCandidates,
        pool: ThreadPoolExecutor,
        on_progress: SamplingProgress,
        *,
        perceptual: bool,
    ) -> None:
        self._folder, self._known, self._pool = folder, known, pool
        self._on_progress, self._perceptual = on_progress, perceptual
        self._benchmarks = BenchmarkIndex()
        self._placed: dict[
            str, str
        ] = {}  # paths of pictures in the folder, and the sources that they came from

    def exclude(self, name: str, records: Iterable[Record]) -> int:
        """Read a benchmark; returns its number of records. Raises DataError if a picture cannot be read."""
        done = 0
        for batch in batches(records, _BATCH):
            found = self._examine(f"exclude {name}", batch)
            for record in batch:
                why = next((found[it.name].why for it in record.pictures if found[it.name].why), None)
                if why is not None:
                    raise DataError(f"the benchmark {name} cannot be excluded: {why}")
                self._benchmarks.add(record, _fingerprints(record, found))
            done += len(batch)
            self._on_progress(f"{name}: reading", done)
        return done

    def find_out(self, label: str, records: Iterable[Record], chosen: frozenset[Place], seed: int) -> None:
        """Examine the chosen ones of a source's records that are not known yet."""
        known = self._known.places(label)
        done, total = len(chosen & known), len(chosen)
        self._on_progress(f"{label}: pictures", done, total)
        for batch in batches(_at_places(label, records, set(chosen - known), seed), _BATCH):
            found = self._examine(label, [record for _, record in batch])
            self._known.add(label, [self._candidate(label, at, record, found) for at, record in batch])
            done += len(batch)
            self._on_progress(f"{label}: pictures", done, total)

    def _examine(self, label: str, records: list[Record]) -> dict[str, ExaminedPicture]:
        """The fingerprints of pictures by name, saved at once."""
        before: set[str] = set()

        def known(name: str) -> Fingerprint | None:
            found = self._known.picture(label, name)
            if found is not None:
                before.add(name)
            return found

        found = examine_pictures(records, self._pool, known=known, perceptual=self._perceptual)
        fresh = [(name, it.fingerprint) for name, it in found.items() if name not in before]
        self._known.add_pictures(label, ((name, seen) for name, seen in fresh if seen is not None))
        return found

    def _candidate(
        self, label: str, at: Place, record: Record, found: dict[str, ExaminedPicture]
    ) -> DrawCandidate:
        """What is known of a record; its pictures are put into the folder unless it is rejected."""
        prints = _fingerprints(record, found)
        if len(prints) < len(record.pictures):
            return DrawCandidate(at, "unreadable", "", "")
        overlap = self._benchmarks.overlap(record, prints)
        if overlap is not None:
            return DrawCandidate(at, overlap, "", "")
        for picture in record.pictures:
            self._place(label, picture, found[picture.name].data)
        pictures = tuple(replace(picture, name=_path_of(picture.name)) for picture in record.pictures)
        content = repr((sorted(it.sha256 for it in prints), question_key(record)))
        digest = hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return DrawCandidate(at, "", digest, json.dumps(to_json(replace(record, pictures=pictures))))

    def _place(self, label: str, picture: Picture, data: bytes | None) -> None:
        """Put a source's picture into the folder, once; `data` are its bytes, if they have been read.

        Raises OSError, and DataError if another picture is there.
        """
        path = _path_of(picture.name)
        if self._placed.get(path) == label:
            return
        target = path_inside(self._folder, path)
        if not target.exists():
            place_picture(picture, target, data)
        elif not holds_picture(target, picture):
            raise DataError(
                f"two sources have different pictures called {picture.name}; give one of the sources a `name`"
            )
        self._placed[path] = label


def _path_of(name: str) -> str:
    """Where the picture of that name goes, relative to the new folder."""
    return f"{FOLDER}/{name.removeprefix(FOLDER + '/')}"


def _fingerprints(record: Record, found: dict[str, ExaminedPicture]) -> list[Fingerprint]:
    """Those of the record's pictures that can be read."""
    prints = (found[picture.name].fingerprint for picture in record.pictures)
    return [it for it in prints if it is not None]


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
