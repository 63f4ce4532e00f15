"""Reads the benchmarks whose questions must not be trained on.

Owns what a path may be: a benchmark in VLMEvalKit's TSV, a folder of records, or a file of them. What makes a
question one of a benchmark's is `overlap.py`'s subject.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from llava_cot.data.overlap import Benchmarks
from llava_cot.data.reading import RecordFile
from llava_cot.data.record import Record
from llava_cot.data.sampling.pictures import Looked, batches, look, threads
from llava_cot.data.sources.tsv import read_tsv
from llava_cot.errors import DataError

_BATCH = 64  # questions whose pictures are looked at together


def load_benchmarks(paths: Sequence[Path], on_progress: Callable[[int], None] | None = None) -> Benchmarks:
    """The questions of these, with fingerprints of their pictures.

    `on_progress` is told how many questions have been read. Raises DataError for a path that
    holds no benchmark, or a question or picture that cannot be read: what is not known cannot be kept out.
    """
    found = Benchmarks()
    pool = threads()
    done = 0
    try:
        for path in paths:
            for records in batches(_records(path), _BATCH):
                _add(found, path, records, look(records, pool, known=lambda _: None, perceptual=True))
                done += len(records)
                if on_progress:
                    on_progress(done)
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def _add(found: Benchmarks, path: Path, records: list[Record], looks: dict[str, Looked]) -> None:
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
