"""A benchmark of the user's own: a TSV file in VLMEvalKit's format, or a folder or file of records.

Of a conversation only the first question is used, since the others depend on the answers before them.
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
from llava_cot.evaluation.benchmarks.tsv_rows import item_of
from llava_cot.evaluation.scoring.choice import ChoiceRule
from llava_cot.evaluation.scoring.free_text import EXACT, NUMBER, WORDS, FittingRule
from llava_cot.evaluation.scoring.yes_no import YesNoRule
from llava_cot.evaluation.types import Benchmark, BenchmarkItem, ScoringRule

RULES: dict[str, ScoringRule] = {
    rule.name: rule for rule in (ChoiceRule(), YesNoRule(), EXACT, NUMBER, WORDS, FittingRule())
}
_SKILL_FIELDS = ("skill", "type", "category")  # of a record's `extra`; the first that is there is used


def open_own(path: Path, rule: str | None = None) -> Benchmark:
    """Open the benchmark at a path, scored by the rule of this name ("fitting" by default).

    Raises DataError for a path without questions or an unknown rule. Reading the questions raises DataError
    for one that cannot be read, or that the rule cannot score.
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
        items=partial(_items, path, tsv, chosen.name),
        rule=chosen,
    )


def _items(path: Path, tsv: bool, rule: str) -> Iterator[BenchmarkItem]:
    records = read_tsv(path, keep=_SKILL_FIELDS) if tsv else RecordFile(path)
    for record in records:
        item = item_of(record, path, _skill(record), hint=tsv)
        try:
            yield _with_letter(item, rule)
        except DataError as error:
            raise DataError(f"{path}, question {record.id}: {error}") from None


def _skill(record: Record) -> str:
    return next((str(record.extra[key]) for key in _SKILL_FIELDS if record.extra.get(key)), record.source)


def _with_letter(item: BenchmarkItem, rule: str) -> BenchmarkItem:
    """Return the item with its answer as a letter where it has options. Raises DataError if it has none."""
    answer = item.answer or ""
    if item.options:
        index = option_of(answer, item.options)
        if index is None:
            raise DataError(f"its answer {answer!r} is not among its options {', '.join(item.options)}")
        item = replace(item, answer=ascii_uppercase[index])
    elif rule == "choice":
        raise DataError("it has no options, which the rule choice needs; choose another with --rule")
    if rule == "yes-no" and answer.strip().lower() not in ("yes", "no"):
        raise DataError(f"its answer {answer!r} is neither yes nor no; choose another with --rule")
    if rule == "number" and len(numbers(answer)) != 1:
        raise DataError(f"its answer {answer!r} is not a number; choose another with --rule")
    return item
