"""Whether two pictures, or two questions, are the same: fingerprints, and an index asked by likeness.

Owns the fingerprints, the distances and the rule by which a question is one of a benchmark's. Knows no
source or file layout.

A picture is known by the hash of its pixels, which survives a lossless copy, and by a perceptual hash
(`imagehash.phash`, the signs of the 16 x 16 lowest frequencies), which survives another size and a stronger
compression. 16 x 16 and not the usual 8 x 8, for pictures of one kind (scenes, charts, pages) resemble one
another. Of 300 scenes against 300 others, the nearest pair of different ones is 8 of 64 bits apart, no more
than a picture and its own cropped copy; with 256 bits it is 62, where JPEG at quality 60 and scaling by 2
change up to 6, and a crop of 1% at each edge up to 22.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from llava_cot.data.record import Record
from llava_cot.errors import DataError, missing_package

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from llava_cot.core.images import ImageLimits
from llava_cot.data.reading import RecordFile
from llava_cot.data.record import Picture
from llava_cot.data.sources.tsv import read_tsv
from llava_cot.errors import ImageError

HASH_BITS = 256
NEAR = 32  # the same picture
LIKE = 56  # a relative of it: cropped by 2% at each edge, or drawn on

_MARKS = ".,;:!?\"'`“”‘’()[]{}…"


class Fingerprint(NamedTuple):
    """What a picture is known by: the hash of its size and RGB pixels in hex, and one of `HASH_BITS` bits."""

    sha256: str
    phash: int


def fingerprint(data: bytes, name: str = "picture", *, perceptual: bool = True) -> Fingerprint:
    """The fingerprint of a picture's file; `phash` is 0 if it is not wanted, which saves a library and time.

    Raises ImageError that says `name` if the picture cannot be read.
    """
    from llava_cot.core.images import load_image

    image = load_image(data, name=name)
    return Fingerprint(image.sha256, perceptual_hash(image.pil) if perceptual else 0)


def perceptual_hash(image: Image) -> int:
    """The perceptual hash of a picture, as `HASH_BITS` bits. Raises DataError without the library for it."""
    try:
        import imagehash
    except ModuleNotFoundError as error:
        raise DataError(missing_package("comparing pictures", error.name, extra="data")) from None
    return int(str(imagehash.phash(image, hash_size=16)), 16)


def normalize(text: str) -> str:
    """A text without what does not change it: case, spaces, marks at the ends of words, a picture's place.

    Signs within a word stay ("3.5", "x-1", "50%"), so that different numbers stay different.
    """
    import unicodedata

    words = unicodedata.normalize("NFKC", text).replace("<image>", " ").casefold().split()
    return " ".join(word for word in (word.strip(_MARKS) for word in words) if word)


def question_key(record: Record) -> str:
    """What a record asks, normalized: its turns' questions, each with its options in any order."""
    return "\n".join(_keys(record))


def _keys(record: Record) -> list[str]:
    return [
        " | ".join([normalize(turn.question), *sorted(normalize(option) for option in turn.options)])
        for turn in record.turns
    ]


class PictureIndex:
    """Fingerprints, asked by likeness. Numbers are given in the order of adding, from 0."""

    def __init__(self) -> None:
        self._exact: dict[str, int] = {}
        self._rows: list[bytes] = []
        self._columns: np.ndarray | None = None  # made anew at the first question after an addition

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, picture: Fingerprint) -> int:
        """Its number."""
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
        if self._columns is None:  # a row a word of the hash, so that NumPy adds long rows
            matrix = np.frombuffer(b"".join(self._rows), np.uint64).reshape(len(self._rows), -1)
            self._columns = np.ascontiguousarray(matrix.T)
        asked = np.frombuffer(picture.phash.to_bytes(HASH_BITS // 8, "big"), np.uint64)
        apart = np.bitwise_count(self._columns ^ asked[:, None]).sum(axis=0, dtype=np.uint16)
        return [int(number) for number in np.flatnonzero(apart <= distance)]


class BenchmarkIndex:
    """The questions that must not be trained on.

    A record is one of them
    - by its picture: one with the same pixels, or as near as `NEAR`, is in a benchmark, whatever is asked;
    - by its text: the same question with the same options is in a benchmark, and there its picture is as near
      as `LIKE`, or one of the two has no picture at all.

    The same text about quite another picture is no overlap: "How many objects are there?" is asked of
    thousands of pictures, and a set without any question of a benchmark's kind would teach nothing for it.
    """

    def __init__(self) -> None:
        self._pictures = PictureIndex()
        self._asked: dict[str, set[int]] = {}  # a question's key: its pictures, and -1 for none

    def __len__(self) -> int:
        """How many different questions there are."""
        return len(self._asked)

    def add(self, record: Record, pictures: Sequence[Fingerprint]) -> None:
        """Add a benchmark's record, with its pictures' fingerprints."""
        numbers = {self._number(picture) for picture in pictures} or {-1}
        for key in _keys(record):
            self._asked.setdefault(key, set()).update(numbers)

    def _number(self, picture: Fingerprint) -> int:
        known = self._pictures.same(picture)
        return self._pictures.add(picture) if known is None else known

    def overlap(self, record: Record, pictures: Sequence[Fingerprint]) -> Literal["picture", "text"] | None:
        """By what the record is one of these, if it is."""
        if any(self._pictures.near(picture, NEAR) for picture in pictures):
            return "picture"
        asked: set[int] = set()
        for key in _keys(record):
            asked |= self._asked.get(key, set())
        if not asked:
            return None
        if not pictures or -1 in asked:
            return "text"
        like = {number for picture in pictures for number in self._pictures.near(picture, LIKE)}
        return "text" if like & asked else None


Item = TypeVar("Item")


class Looked(NamedTuple):
    """A picture's fingerprint, or why it has none; and its bytes where they would have to be made again."""

    fingerprint: Fingerprint | None = None
    data: bytes | None = None
    why: str = ""


def batches(items: Iterable[Item], size: int = 64) -> Iterator[list[Item]]:
    """The items, `size` at a time; of records, so many have their pictures in memory together."""
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch


def threads() -> ThreadPoolExecutor:
    """As many as there are cores."""
    return ThreadPoolExecutor(os.cpu_count() or 1)


def look(
    records: Sequence[Record],
    pool: ThreadPoolExecutor,
    *,
    known: Callable[[str], Fingerprint | None],
    perceptual: bool,
) -> dict[str, Looked]:
    """What is seen of the records' pictures, by name.

    `known` has those that were looked at before. Without `perceptual` that hash is left 0.
    """
    found: dict[str, Looked] = {}
    waiting: dict[str, Future[Looked]] = {}
    for picture in (picture for record in records for picture in record.pictures):
        if picture.name in found or picture.name in waiting:
            continue
        before = known(picture.name)
        if before is None:
            waiting[picture.name] = pool.submit(_look_at, picture, perceptual)
        else:
            found[picture.name] = Looked(before)
    return found | {name: future.result() for name, future in waiting.items()}


def _look_at(picture: Picture, perceptual: bool) -> Looked:
    most = ImageLimits().max_bytes
    try:
        if picture.file is not None and picture.file.stat().st_size > most:
            return Looked(why=f"{picture.name}: it has more than the {most / 1e6:g} MB allowed")
        data = picture.read()
    except OSError as error:
        return Looked(why=f"{picture.name}: {(error.strerror or 'it cannot be opened').lower()}")
    except DataError as error:
        return Looked(why=str(error))
    try:
        seen = fingerprint(data, picture.name, perceptual=perceptual)
    except ImageError as error:
        return Looked(why=str(error))
    return Looked(seen, data if picture.file is None else None)


def load_benchmarks(
    paths: Sequence[Path], on_progress: Callable[[int], None] | None = None
) -> BenchmarkIndex:
    """The questions of these, with fingerprints of their pictures.

    `on_progress` is told how many questions have been read. Raises DataError for a path that
    holds no benchmark, or a question or picture that cannot be read: what is not known cannot be kept out.
    """
    found = BenchmarkIndex()
    pool = threads()
    done = 0
    try:
        for path in paths:
            for records in batches(_records(path)):
                _add(found, path, records, look(records, pool, known=lambda _: None, perceptual=True))
                done += len(records)
                if on_progress:
                    on_progress(done)
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def _add(found: BenchmarkIndex, path: Path, records: list[Record], looks: dict[str, Looked]) -> None:
    for record in records:
        prints = []
        for looked in (looks[picture.name] for picture in record.pictures):
            if looked.fingerprint is None:
                raise DataError(f"a picture of the benchmark {path} cannot be read: {looked.why}")
            prints.append(looked.fingerprint)
        found.add(record, prints)


def _records(path: Path) -> Iterator[Record]:
    if path.suffix.lower() == ".tsv":
        yield from read_tsv(path)
        return
    if not path.is_dir() and not (path.is_file() and path.suffix.lower() == ".jsonl"):
        raise DataError(f"{path} is no benchmark; name a TSV of VLMEvalKit, or a folder or .jsonl of records")
    yield from RecordFile(path)
