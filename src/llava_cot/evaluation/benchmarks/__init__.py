"""Benchmarks: the public ones and those of other packages by name, and files or folders of the user's own.

A package adds a benchmark by an entry point of the group `llava_cot.benchmarks`, whose object is a function
without arguments that returns a `Benchmark`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from llava_cot.core.plugins import Registry
from llava_cot.errors import DataError
from llava_cot.evaluation.benchmarks.own import RULES, open_own
from llava_cot.evaluation.benchmarks.packaged import easy_vqa, scenes
from llava_cot.evaluation.benchmarks.tables import TABLES, open_table
from llava_cot.evaluation.types import Benchmark, ScoringRule

__all__ = ["BENCHMARKS", "RULES", "open_benchmark", "rule_named"]

BENCHMARKS: Registry[Callable[[], Benchmark]] = Registry("llava_cot.benchmarks", "benchmark")
for _table in TABLES.values():
    BENCHMARKS.add(_table.name, partial(open_table, _table))
BENCHMARKS.add("scenes", scenes)
BENCHMARKS.add("easy-vqa", easy_vqa)


def open_benchmark(name: str, root: Path | None = None, rule: str | None = None) -> Benchmark:
    """Open a benchmark. Its questions and pictures are read when they are needed.

    Args:
        name: A name in `BENCHMARKS` ("scenes:validation" is the other split), or a path. A file that has the
            name of one of VLMEvalKit's is that benchmark, unless `rule` is given.
        root: The folder of VLMEvalKit's files, or the file itself. By default the folder that the environment
            names, or VLMEvalKit's own.
        rule: For a path: the name of the scoring rule.

    Raises:
        DataError: for an unknown name, a missing file, or a rule for a benchmark that has its own.
    """
    path = Path(name).expanduser()
    table = TABLES.get(name)
    if table is None and rule is None and path.is_file():
        table = next((table for table in TABLES.values() if path.name in table.files), None)
        root = path
    if table is None and name not in BENCHMARKS and not name.startswith("scenes:"):
        if not path.exists():
            raise DataError(
                f"there is no benchmark {name!r}; choose one of {', '.join(BENCHMARKS)}, or name a TSV file "
                "in VLMEvalKit's format, or a folder or .jsonl file of records"
            )
        return open_own(path, rule)
    if rule is not None:
        raise DataError(f"{name} has its authors' scoring rule; --rule is for files of your own")
    if table is not None:
        return open_table(table, root)
    if name.startswith("scenes:"):
        return scenes(name.partition(":")[2])
    opened: Benchmark = BENCHMARKS[name]()
    return replace(opened, name=name)


def rule_named(name: str, benchmark: str) -> ScoringRule:
    """Return the rule of this name, which a run folder stores with its benchmark.

    Raises DataError if there is none, as for a folder of another version or of a package that is missing.
    """
    if name in RULES:
        return RULES[name]
    for table in TABLES.values():
        if table.rule.name == name:
            return table.rule
    if benchmark in BENCHMARKS:
        opened: Benchmark = BENCHMARKS[benchmark]()
        if opened.rule.name == name:
            return opened.rule
    raise DataError(
        f"there is no scoring rule {name!r} here, which {benchmark} needs; install the package or version of "
        "llava-cot that wrote the folder"
    )
