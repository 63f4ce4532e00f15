"""Benchmarks: the public ones and those of other packages by name, and files or folders of the user's own.

A package adds a benchmark by an entry point of the group `llava_cot.benchmarks`, whose object is a function
without arguments that returns a `Benchmark`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from string import ascii_uppercase

from llava_cot.core.answer_matching import option_of
from llava_cot.core.files import home_path
from llava_cot.core.numbers import read_number
from llava_cot.core.plugins import Registry
from llava_cot.data.reading import RecordFile
from llava_cot.data.record import Picture
from llava_cot.data.sources.row_files import json_value
from llava_cot.data.sources.tsv import read_tsv
from llava_cot.errors import DataError, missing_package
from llava_cot.evaluation.benchmarks.vlmevalkit import TABLES, TsvBenchmark, item_of, open_table
from llava_cot.evaluation.scoring.choice import ChoiceRule
from llava_cot.evaluation.scoring.free_text import EXACT, NUMBER, WORDS, FittingRule
from llava_cot.evaluation.scoring.mathvista import MathVistaRule
from llava_cot.evaluation.scoring.yes_no import YesNoRule
from llava_cot.evaluation.types import Benchmark, BenchmarkItem, ScoringRule

RULES: dict[str, ScoringRule] = {
    rule.name: rule for rule in (ChoiceRule(), YesNoRule(), EXACT, NUMBER, WORDS, FittingRule())
}  # for files of the user's own
_SKILL_FIELDS = ("skill", "type", "category")  # of a record's `extra`; the first that is there is used
# By the benchmark's name: the difficulty, and the number of questions. The standard error of a score of 2,000
# is about 1 point; of the hard ones, three in four are chains.
SCENES = {"scenes": ("standard", 2_000), "scenes-hard": ("hard", 4_000)}
_SPLITS = ("test", "validation")
_KINDS = {"yes": "presence", "no": "presence", "circle": "shape", "rectangle": "shape", "triangle": "shape"}


def scenes(name: str = "scenes", split: str = "test") -> Benchmark:
    """Open the first scenes of a split; training uses neither split. Raises DataError for another split."""
    if split not in _SPLITS:
        raise DataError(f"{name} has no split {split!r} to evaluate on; it has {' and '.join(_SPLITS)}")
    return Benchmark(
        name=name if split == "test" else f"{name}:{split}",
        title=f"{'Hard scenes' if name == 'scenes-hard' else 'Scenes'}, {split}",
        page="docs/explanation/scenes-and-mini.md",
        items=partial(_scenes, split, *SCENES[name]),
        rule=WORDS,
    )


def _scenes(split: str, difficulty: str, size: int) -> Iterator[BenchmarkItem]:
    from llava_cot.data.sources.rendered import read_scenes
    from llava_cot.scenes.filters import VALUES

    for record in read_scenes(split, 0, size, difficulty):
        turn = record.turns[0]
        answers = next((values for values in VALUES.values() if turn.answer in values), ())
        extra = {"depth": record.extra["depth"]} | ({"answers": list(answers)} if answers else {})
        yield BenchmarkItem(
            record.id, turn.question, turn.options, turn.answer, record.pictures, record.extra["type"], extra
        )


def easy_vqa() -> Benchmark:
    """Open the test split of the package easy-vqa. Raises DataError if it is not installed."""
    found = importlib.util.find_spec("easy_vqa")
    places = list(found.submodule_search_locations or ()) if found else []
    if not places:
        raise DataError(missing_package("easy-vqa", "the package of that name", extra="eval"))
    return Benchmark(
        name="easy-vqa",
        title="easy-VQA, test",
        page="https://github.com/vzhou842/easy-VQA",
        items=partial(_easy_vqa, Path(places[0]) / "data"),
        rule=WORDS,
    )


def _easy_vqa(data: Path) -> Iterator[BenchmarkItem]:
    """Read `test/questions.json`, a list of [question, answer, number of the picture] with 13 answers."""
    answers: dict[str, list[str]] = {}
    for answer in (data / "answers.txt").read_text(encoding="utf-8").split():
        answers.setdefault(_kind(answer), []).append(answer)
    for number, (question, answer, image) in enumerate(json_value(data / "test/questions.json")):
        name = f"easy-vqa/test/images/{image}.png"
        yield BenchmarkItem(
            id=f"easy-vqa/test-{number}",
            text=question,
            answer=answer,
            pictures=(Picture(name, data / f"test/images/{image}.png"),),
            skill=_kind(answer),
            extra={"cluster": name, "answers": answers[_kind(answer)]},
        )


def _kind(answer: str) -> str:
    return _KINDS.get(answer, "color")


BENCHMARKS: Registry[Callable[[], Benchmark]] = Registry("llava_cot.benchmarks", "benchmark")
for _table in TABLES.values():
    BENCHMARKS.add(_table.name, partial(open_table, _table))
for _name in SCENES:
    BENCHMARKS.add(_name, partial(scenes, _name))
BENCHMARKS.add("easy-vqa", easy_vqa)


def open_benchmark(
    name: str, root: Path | None = None, rule: str | None = None, *, download: bool = False
) -> Benchmark:
    """Open a benchmark. Its questions and pictures are read when they are needed.

    Args:
        name: A name in `BENCHMARKS` ("scenes:validation" is another split), or a path. A file that has the
            name of one of VLMEvalKit's is that benchmark, unless `rule` is given.
        root: The folder of VLMEvalKit's files, or the file itself. By default the folder that the environment
            names, or VLMEvalKit's own.
        rule: For a path: the name of the scoring rule. For a benchmark of VLMEvalKit with choices: its rule
            in an older version ("choice-0.0.20").
        download: Download a file of VLMEvalKit's that is missing, unless HF_HUB_OFFLINE is set.

    Raises:
        DataError: for an unknown name, a missing file, or a rule for a benchmark that has its own.
    """
    path = home_path(name)
    table = TABLES.get(name)
    if table is None and rule is None and path.is_file():
        table = next((table for table in TABLES.values() if path.name in table.files), None)
        root = path
    base, _, split = name.partition(":")
    of_scenes = base in SCENES and split != ""
    if table is None and name not in BENCHMARKS and not of_scenes:
        if not path.exists():
            raise DataError(
                f"there is no benchmark {name!r}; choose one of {', '.join(BENCHMARKS)}, or name a TSV file "
                "in VLMEvalKit's format, or a folder or file of records"
            )
        return _open_own(path, rule)
    if table is not None and rule in (known := _rules_of(table)):
        return replace(open_table(table, root, download=download), rule=known[rule])
    if rule is not None:
        own = (
            f" (or {' or '.join(list(known)[1:])} for {name})" if table is not None and len(known) > 1 else ""
        )
        raise DataError(f"{name} has its authors' scoring rule; --rule is for files of your own{own}")
    if table is not None:
        return open_table(table, root, download=download)
    if of_scenes:
        return scenes(base, split)
    opened: Benchmark = BENCHMARKS[name]()
    return replace(opened, name=name)


def _rules_of(table: TsvBenchmark) -> dict[str, ScoringRule]:
    """The benchmark's rule by its name, and where scores depend on VLMEvalKit's version, its older rule."""
    rules = [table.rule]
    if isinstance(table.rule, ChoiceRule | MathVistaRule):
        rules.append(type(table.rule)(old=True))
    return {rule.name: rule for rule in rules}


def rule_named(name: str, benchmark: str) -> ScoringRule:
    """Return the rule of this name, which a run folder stores with its benchmark.

    Raises DataError if there is none, as for a folder of another version or of a package that is missing.
    """
    if name in RULES:
        return RULES[name]
    for table in TABLES.values():
        if name in (rules := _rules_of(table)):
            return rules[name]
    if benchmark in BENCHMARKS:
        opened: Benchmark = BENCHMARKS[benchmark]()
        if opened.rule.name == name:
            return opened.rule
    raise DataError(
        f"there is no scoring rule {name!r} here, which {benchmark} needs; install the package or version of "
        "llava-cot that wrote the folder"
    )


def _open_own(path: Path, rule: str | None) -> Benchmark:
    """Open a file or folder of questions; reading these raises DataError for one that cannot be scored.

    Of a conversation only the first question is used, since the others depend on the answers before them.
    """
    if rule is not None and rule not in RULES:
        raise DataError(f"there is no scoring rule {rule!r}; choose one of {', '.join(RULES)}")
    tsv = path.suffix.lower() == ".tsv"
    if not tsv:
        RecordFile(path)  # raises DataError for a wrong path
    chosen = RULES[rule or "fitting"]
    return Benchmark(
        name=path.resolve().stem if path.is_file() else path.resolve().name,
        title=str(path),
        page="",
        items=partial(_own_items, path, tsv, chosen.name),
        rule=chosen,
    )


def _own_items(path: Path, tsv: bool, rule: str) -> Iterator[BenchmarkItem]:
    records = read_tsv(path, keep=_SKILL_FIELDS) if tsv else RecordFile(path)
    for record in records:
        skills = (str(record.extra[key]) for key in _SKILL_FIELDS if record.extra.get(key))
        extra = {"depth": record.extra["depth"]} if "depth" in record.extra else {}
        item = item_of(record, path, next(skills, record.source), hint=tsv, extra=extra)
        try:
            yield _with_letter(item, rule)
        except DataError as error:
            raise DataError(f"{path}, question {record.id}: {error}") from None


def _with_letter(item: BenchmarkItem, rule: str) -> BenchmarkItem:
    """Return the item with its answer as a letter where it has options. Raises DataError if it has none."""
    answer = item.answer or ""
    if item.options:
        index = option_of(answer, item.options)
        if index is None:
            options = ", ".join(filter(None, item.options))
            raise DataError(f"its answer {answer!r} is not among its options {options}")
        item = replace(item, answer=ascii_uppercase[index])
    elif rule == "choice":
        raise DataError("it has no options, which the rule choice needs; choose another with --rule")
    if rule == "yes-no" and answer.strip().lower() not in ("yes", "no"):
        raise DataError(f"its answer {answer!r} is neither yes nor no; choose another with --rule")
    if rule == "number" and read_number(answer) is None:
        raise DataError(f"its answer {answer!r} is not a number; choose another with --rule")
    return item
