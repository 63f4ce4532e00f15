"""Finding out who may be drawn: the pictures of records are looked at, compared with benchmarks' and kept.

Owns the batches between sources, threads (`pictures.py`), the rule of overlap (`overlap.py`) and the file of
what is known (`candidates.py`). Knows nothing of counts or of who is drawn in the end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from llava_cot.core.files import path_inside
from llava_cot.data.overlap import BenchmarkIndex, Fingerprint, Looked, batches, look, question_key
from llava_cot.data.record import Picture, Record, holds_picture, place_picture, to_json
from llava_cot.data.sampling.candidates import CandidateFile, DrawCandidate
from llava_cot.data.sampling.draw import Place, place
from llava_cot.errors import DataError

FOLDER = "images"
_BATCH = 64  # records whose pictures are in memory together


class SamplingProgress(Protocol):
    """Told what is being done, how far it is, and of how much if that is known."""

    def __call__(self, what: str, done: int, total: int | None = None) -> None: ...


class Finder:
    """What it takes to find out: the folder, what is known already, threads, and the benchmarks.

    `perceptual` is whether pictures will be compared with benchmarks' at all.
    """

    def __init__(
        self,
        folder: Path,
        kept: CandidateFile,
        pool: ThreadPoolExecutor,
        on_progress: SamplingProgress,
        *,
        perceptual: bool,
    ) -> None:
        self._kept, self._pool, self._on_progress, self._perceptual = kept, pool, on_progress, perceptual
        self._benchmarks = BenchmarkIndex()
        self._placed = Placed(folder)

    def exclude(self, name: str, records: Iterable[Record]) -> int:
        """Take up a benchmark; how many records it has. Raises DataError if a picture cannot be read."""
        done = 0
        for batch in batches(records, _BATCH):
            found = self._look(f"exclude {name}", batch)
            for record in batch:
                why = next((found[it.name].why for it in record.pictures if found[it.name].why), None)
                if why is not None:
                    raise DataError(f"the benchmark {name} cannot be kept out: {why}")
                self._benchmarks.add(record, _fingerprints(record, found))
            done += len(batch)
            self._on_progress(f"{name}: taking up", done)
        return done

    def find_out(self, label: str, records: Iterable[Record], chosen: frozenset[Place], seed: int) -> None:
        """Look at the chosen among a source's records, so far as they are not known yet."""
        known = self._kept.known(label)
        done, total = len(chosen & known), len(chosen)
        self._on_progress(f"{label}: pictures", done, total)
        for batch in batches(_awaited(label, records, set(chosen - known), seed), _BATCH):
            found = self._look(label, [record for _, record in batch])
            self._kept.add(label, [self._candidate(label, at, record, found) for at, record in batch])
            done += len(batch)
            self._on_progress(f"{label}: pictures", done, total)

    def _look(self, label: str, records: list[Record]) -> dict[str, Looked]:
        """The fingerprints of pictures by name, kept as soon as they are there."""
        before: set[str] = set()

        def known(name: str) -> Fingerprint | None:
            found = self._kept.picture(label, name)
            if found is not None:
                before.add(name)
            return found

        found = look(records, self._pool, known=known, perceptual=self._perceptual)
        fresh = [(name, it.fingerprint) for name, it in found.items() if name not in before]
        self._kept.add_pictures(label, ((name, seen) for name, seen in fresh if seen is not None))
        return found

    def _candidate(self, label: str, at: Place, record: Record, found: dict[str, Looked]) -> DrawCandidate:
        """What is known of a record; its pictures are put into the folder if nothing speaks against it."""
        whole = _fingerprints(record, found)
        if len(whole) < len(record.pictures):
            return DrawCandidate(at, "unreadable", b"", "")
        against = self._benchmarks.overlap(record, whole)
        if against is not None:
            return DrawCandidate(at, against, b"", "")
        for picture in record.pictures:
            self._placed.put(label, picture, found[picture.name].data)
        pictures = tuple(replace(picture, name=path_of(picture.name)) for picture in record.pictures)
        content = repr((sorted(it.sha256 for it in whole), question_key(record)))
        same = hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return DrawCandidate(at, "", same, json.dumps(to_json(replace(record, pictures=pictures))))


def _fingerprints(record: Record, found: dict[str, Looked]) -> list[Fingerprint]:
    """Of those of the record's pictures that can be read."""
    prints = (found[picture.name].fingerprint for picture in record.pictures)
    return [it for it in prints if it is not None]


def _awaited(
    label: str, records: Iterable[Record], awaited: set[Place], seed: int
) -> Iterator[tuple[Place, Record]]:
    """Those of the records whose places are awaited, each once; reading ends with the last of them."""
    if not awaited:
        return
    for record in records:
        at = place(seed, label, record)
        if at in awaited:
            awaited.remove(at)
            yield at, record
            if not awaited:
                return


def path_of(name: str) -> str:
    """Where the picture of that name goes, relative to the new folder."""
    return f"{FOLDER}/{name.removeprefix(FOLDER + '/')}"


class Placed:
    """The pictures that have been put under a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._from: dict[str, str] = {}  # a path that is there, and the source that it came from

    def put(self, label: str, picture: Picture, data: bytes | None = None) -> None:
        """Put a source's picture there, once; `data` are its bytes, where they have been read.

        Raises OSError, and DataError if another picture is there.
        """
        path = path_of(picture.name)
        if self._from.get(path) == label:
            return
        target = path_inside(self._folder, path)
        if target.exists():
            if not holds_picture(target, picture):
                raise DataError(
                    f"two sources have different pictures called {picture.name}; "
                    "give one of the sources a `name`"
                )
        else:
            place_picture(picture, target, data)
        self._from[path] = label
