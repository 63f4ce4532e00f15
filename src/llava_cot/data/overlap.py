"""Whether two pictures, or two questions, are the same: fingerprints, an index of them, benchmarks.

A picture is known by the hash of its pixels, which survives a lossless copy, and by a perceptual hash
(`imagehash.phash`, the signs of the 16 x 16 lowest frequencies), which survives another size and a stronger
compression.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from llava_cot.core.images import load_image
from llava_cot.core.question import PLACE
from llava_cot.data.reading import SUFFIXES, RecordFile
from llava_cot.data.record import IMAGE_MARK, Picture, Record
from llava_cot.data.sources.tsv import read_tsv
from llava_cot.errors import DataError, ImageError, needs_extra

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

# Not the usual 64 bits, with which the nearest pair of 300 scenes is as close (8 bits) as a picture and its
# own cropped copy. With 256 that pair is 62 bits apart, and JPEG at quality 60 or scaling by 2 change up to
# 6.
HASH_BITS = 256
NEAR = 32  # bits between two copies of one picture
LIKE = 56  # bits between relatives: cropped by 2% at each edge, or drawn on

Item = TypeVar("Item")
_MARKS = ".,;:!?\"'`“”‘’()[]{}…"


class Fingerprint(NamedTuple):
    """A picture's hash of size and RGB pixels in hex, and its perceptual hash of `HASH_BITS` bits."""

    sha256: str
    phash: int


class ExaminedPicture(NamedTuple):
    """A picture's fingerprint, or why it has none; and its bytes if they would have to be made again."""

    fingerprint: Fingerprint | None = None
    data: bytes | None = None
    why: str = ""


def fingerprint(data: bytes, name: str = "picture", *, perceptual: bool = True) -> Fingerprint:
    """The fingerprint of a picture's file, named `name` in errors. Raises ImageError if it cannot be read.

    Without `perceptual`, `phash` is 0, which saves a library and time.
    """
    image = load_image(data, name=name)
    return Fingerprint(image.sha256, perceptual_hash(image.pil) if perceptual else 0)


def perceptual_hash(image: Image) -> int:
    """The perceptual hash of a picture, of `HASH_BITS` bits. Raises DataError without the library for it."""
    with needs_extra("comparing pictures", "data"):
        import imagehash
    return int(str(imagehash.phash(image, hash_size=16)), 16)


def normalize(text: str) -> str:
    """A text without what does not change its meaning: case, spaces, marks at the ends of words, image marks.

    Signs within a word stay ("3.5", "x-1", "50%"), so that different numbers stay different.
    """
    words = (
        unicodedata.normalize("NFKC", text).replace(IMAGE_MARK, " ").replace(PLACE, " ").casefold().split()
    )
    return " ".join(word for word in (word.strip(_MARKS) for word in words) if word)


def question_key(record: Record) -> str:
    """The questions of a record's turns, normalized, each with its options in any order."""
    return "\n".join(_keys(record))


def _keys(record: Record) -> list[str]:
    return [
        " | ".join(
            [normalize(turn.question), *sorted(normalize(option) for option in turn.options if option)]
        )
        for turn in record.turns
    ]


class PictureIndex:
    """Fingerprints, found by likeness. They are numbered in the order of adding, from 0."""

    def __init__(self) -> None:
        self._exact: dict[str, int] = {}
        self._rows: list[bytes] = []
        self._columns: np.ndarray | None = None  # rebuilt at the first search after an addition

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, picture: Fingerprint) -> int:
        """Add a fingerprint; returns its number."""
        number = len(self._rows)
        self._exact.setdefault(picture.sha256, number)
        self._rows.append(picture.phash.to_bytes(HASH_BITS // 8, "big"))
        self._columns = None
        return number

    def same(self, picture: Fingerprint) -> int | None:
        """The first with the same pixels."""
        return self._exact.get(picture.sha256)

    def near(self, picture: Fingerprint, distance: int = NEAR) -> list[int]:
        """Those whose perceptual hashes differ in at most `distance` bits, and those with the same pixels."""
        import numpy as np

        if not self._rows:
            return []
        if self._columns is None:  # a row for each word of the hash, so that NumPy adds long rows
            matrix = np.frombuffer(b"".join(self._rows), np.uint64).reshape(len(self._rows), -1)
            self._columns = np.ascontiguousarray(matrix.T)
        hashed = np.frombuffer(picture.phash.to_bytes(HASH_BITS // 8, "big"), np.uint64)
        apart = np.bitwise_count(self._columns ^ hashed[:, None]).sum(axis=0, dtype=np.uint16)
        return [int(number) for number in np.flatnonzero(apart <= distance)]


class BenchmarkIndex:
    """The questions of benchmarks, which must not be trained on.

    A record is one of them
    - by its picture: one with the same pixels, or at most `NEAR` away, is in a benchmark, with any question;
    - by its text: the same question with the same options is in a benchmark, and its picture there is at most
      `LIKE` away, or one of the two has no picture at all. The same text about quite another picture is no
      overlap: "How many objects are there?" fits thousands of pictures.
    """

    def __init__(self) -> None:
        self._pictures = PictureIndex()
        self._questions: dict[str, set[int]] = {}  # by a question's key: its pictures, and -1 for none

    def __len__(self) -> int:
        """The number of different questions."""
        return len(self._questions)

    def add_all(self, name: object, records: list[Record], found: Mapping[str, ExaminedPicture]) -> None:
        """Add records of the benchmark `name`. Raises DataError if one of their pictures was not readable."""
        for record in records:
            for picture in record.pictures:
                if found[picture.name].why:
                    raise DataError(f"the benchmark {name} cannot be excluded: {found[picture.name].why}")
            self.add(record, fingerprints(record, found))

    def add(self, record: Record, pictures: Sequence[Fingerprint]) -> None:
        """Add a benchmark's record, with the fingerprints of its pictures."""
        numbers = {self._number(picture) for picture in pictures} or {-1}
        for key in _keys(record):
            self._questions.setdefault(key, set()).update(numbers)

    def _number(self, picture: Fingerprint) -> int:
        known = self._pictures.same(picture)
        return self._pictures.add(picture) if known is None else known

    def overlap(self, record: Record, pictures: Sequence[Fingerprint]) -> Literal["picture", "text"] | None:
        """How the record is one of these, if it is."""
        if any(self._pictures.near(picture, NEAR) for picture in pictures):
            return "picture"
        found: set[int] = set()
        for key in _keys(record):
            found |= self._questions.get(key, set())
        if not found:
            return None
        if not pictures or -1 in found:
            return "text"
        like = {number for picture in pictures for number in self._pictures.near(picture, LIKE)}
        return "text" if like & found else None


def batches(items: Iterable[Item], size: int = 64) -> Iterator[list[Item]]:
    """The items, `size` at a time; of records, so many have their pictures in memory together."""
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch


def reading_threads() -> ThreadPoolExecutor:
    """A thread for each core: Pillow releases Python's lock while it decodes."""
    return ThreadPoolExecutor(os.cpu_count() or 1)


def examine_pictures(
    records: Sequence[Record],
    pool: ThreadPoolExecutor,
    *,
    known: Mapping[str, Fingerprint] = {},
    perceptual: bool,
) -> dict[str, ExaminedPicture]:
    """Read the records' pictures in threads, and return their fingerprints by name.

    `known` are fingerprints of pictures that were read before. Perceptual hashes are made if `perceptual`.
    """
    found: dict[str, ExaminedPicture] = {}
    waiting: dict[str, Future[ExaminedPicture]] = {}
    for picture in (picture for record in records for picture in record.pictures):
        if picture.name in found or picture.name in waiting:
            continue
        if picture.name in known:
            found[picture.name] = ExaminedPicture(known[picture.name])
        else:
            waiting[picture.name] = pool.submit(_examine, picture, perceptual)
    return found | {name: future.result() for name, future in waiting.items()}


def fingerprints(record: Record, found: Mapping[str, ExaminedPicture]) -> list[Fingerprint]:
    """The fingerprints of the record's pictures, without those that cannot be read."""
    prints = (found[picture.name].fingerprint for picture in record.pictures)
    return [it for it in prints if it is not None]


def _examine(picture: Picture, perceptual: bool) -> ExaminedPicture:
    try:
        data = picture.read()
    except OSError as error:
        return ExaminedPicture(why=f"{picture.name}: {(error.strerror or 'it cannot be opened').lower()}")
    except DataError as error:
        return ExaminedPicture(why=str(error))
    try:
        seen = fingerprint(data, picture.name, perceptual=perceptual)
    except ImageError as error:
        return ExaminedPicture(why=str(error))
    return ExaminedPicture(seen, data if picture.file is None else None)


def load_benchmarks(
    paths: Sequence[Path], on_progress: Callable[[int], None] = lambda done: None
) -> BenchmarkIndex:
    """Read benchmarks whose questions must not be trained on.

    Each path is a TSV of VLMEvalKit, a folder of records, or a .jsonl file of them. `on_progress` gets the
    number of questions read. Raises DataError if a path holds no benchmark, or a question or picture of it
    cannot be read, and so not be excluded.
    """
    found = BenchmarkIndex()
    pool = reading_threads()
    done = 0
    try:
        for path in paths:
            for records in batches(_benchmark_records(path)):
                found.add_all(path, records, examine_pictures(records, pool, perceptual=True))
                done += len(records)
                on_progress(done)
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def _benchmark_records(path: Path) -> Iterator[Record]:
    if path.suffix.lower() == ".tsv":
        yield from read_tsv(path)
        return
    if not path.is_dir() and not (path.is_file() and path.suffix.lower() in SUFFIXES):
        raise DataError(f"{path} is no benchmark; name a TSV of VLMEvalKit, or a folder or file of records")
    yield from RecordFile(path)
