"""A benchmark of the user's own: a TSV in VLMEvalKit's form, or a folder or file of records.

Owns which rules it may be scored by, and what they ask of its questions. Of a conversation the first question
counts; the others depend on what was said before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from string import ascii_uppercase

from llava_cot.core.answer_matching import numbers, option_of
from llava_cot.data.reading import RecordFile
from llava_cot.data.record import Record
from llava_cot.data.sources.tsv import read_tsv
from llava_cot.errors import DataError
from llava_cot.evaluation.benchmarks.rows import item_of
from llava_cot.evaluation.scoring.choice import Choice
from llava_cot.evaluation.scoring.words import EXACT, NUMBER, WORDS, Fitting
from llava_cot.evaluation.scoring.yes_no import YesNo
from llava_cot.evaluation.types import Benchmark, BenchmarkItem, ScoringRule

RULES: dict[str, ScoringRule] = {
    rule.name: rule for rule in (Choice(), YesNo(), EXACT, NUMBER, WORDS, Fitting())
}
_SKILLS = ("skill", "type", "category")  # of a record's `extra`, the first that is there


def open_own(path: Path, rule: str | None = None) -> Benchmark:
    """The benchmark at a path, scored by a rule of that name ("fitting" if none is named).

    Raises DataError for a path that holds no questions, or an unknown rule. Going through its questions
    raises DataError for one that cannot be read, or cannot be scored by the rule.
    """
    if rule is not None and rule not in RULES:
        raise DataError(f"there is no rule {rule!r}; choose one of {', '.join(RULES)}")
    tsv = path.suffix.lower() == ".tsv"
    if not tsv:
        RecordFile(path)  # says what is wrong with the path
    chosen = RULES[rule or "fitting"]
    return Benchmark(
        name=path.resolve().stem if path.is_file() else path.resolve().name,
        title=str(path),
        page="",
        items=partial(_items, path, tsv, chosen.name),
        rule=chosen,
    )


def _items(path: Path, tsv: bool, rule: str) -> Iterator[BenchmarkItem]:
    records = read_tsv(path, keep=_SKILLS) if tsv else RecordFile(path)
    for record in records:
        item = item_of(record, path, _skill(record), hint=tsv)
        try:
            yield _scorable(item, rule)
        except DataError as error:
            raise DataError(f"{path}, question {record.id}: {error}") from None


def _skill(record: Record) -> str:
    return next((str(record.extra[key]) for key in _SKILLS if record.extra.get(key)), record.source)


def _scorable(item: BenchmarkItem, rule: str) -> BenchmarkItem:
    """The item, its answer as a letter where there are options. Raises DataError if it has no such answer."""
    answer = item.answer or ""
    if item.options:
        index = option_of(answer, item.options)
        if index is None:
            raise DataError(f"its answer {answer!r} is none of its options {', '.join(item.options)}")
        item = replace(item, answer=ascii_uppercase[index])
    elif rule == "choice":
        raise DataError("it has no options, which the rule choice needs; choose another rule")
    if rule == "yes-no" and answer.strip().lower() not in ("yes", "no"):
        raise DataError(f"its answer {answer!r} is neither yes nor no; choose another rule")
    if rule == "number" and len(numbers(answer)) != 1:
        raise DataError(f"its answer {answer!r} is no number; choose another rule")
    return item
