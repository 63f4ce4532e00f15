"""Benchmarks: the public ones by name, and any file or folder of the user's own.

Owns opening one. Each is read lazily, and no picture before it is asked for.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from llava_cot.errors import DataError
from llava_cot.evaluation.benchmarks.files_of_benchmarks import find
from llava_cot.evaluation.benchmarks.made_up import easy_vqa, scenes
from llava_cot.evaluation.benchmarks.own import RULES, open_own
from llava_cot.evaluation.benchmarks.tables import TABLES, TsvBenchmark
from llava_cot.evaluation.types import Benchmark

__all__ = ["BENCHMARKS", "RULES", "open_benchmark"]

BENCHMARKS = (*TABLES, "scenes", "easy-vqa")


def open_benchmark(name: str, root: Path | None = None, rule: str | None = None) -> Benchmark:
    """A benchmark by its name in `BENCHMARKS` ("scenes:validation" is the other split), or by its path.

    `root` is the folder of VLMEvalKit's files, or the file itself; if not given, the environment's or
    VLMEvalKit's own. A path to a file that is called as one of VLMEvalKit's is that benchmark, unless a
    `rule` is named; a rule is for a path alone, since public benchmarks bring theirs. Raises DataError.
    """
    path = Path(name).expanduser()
    table = TABLES.get(name)
    if table is None and rule is None and path.is_file():
        table = next((table for table in TABLES.values() if path.name in table.files), None)
        root = path
    if table is None and name not in BENCHMARKS and not name.startswith("scenes:"):
        if not path.exists():
            raise DataError(
                f"there is no benchmark {name!r}; choose one of {', '.join(BENCHMARKS)}, or name a TSV of "
                "VLMEvalKit's form, or a folder or .jsonl file of records"
            )
        return open_own(path, rule)
    if rule is not None:
        raise DataError(f"{name} is scored by its authors' rule; name a rule only for files of your own")
    if table is not None:
        return _open(table, root)
    return easy_vqa() if name == "easy-vqa" else scenes(name.partition(":")[2] or "test")


def _open(table: TsvBenchmark, root: Path | None) -> Benchmark:
    file = find(table.files, root)
    if table.check is not None:
        table.check(file)
    return Benchmark(table.name, table.title, table.page, partial(table.read, file), table.rule(), table.note)
