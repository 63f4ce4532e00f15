"""Checks of a data folder: what would be wrong to train on, and where. Memory: a few hashes for each line."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

from llava_cot.core.answer_matching import agrees
from llava_cot.core.stages import LLAVA_COT, Answer, StageFormat, parse, validate
from llava_cot.data.checks.giveaways import leaks, refusal
from llava_cot.data.overlap import (
    BenchmarkIndex,
    ExaminedPicture,
    batches,
    examine_pictures,
    question_key,
    reading_threads,
)
from llava_cot.data.reading import DataLine, data_file, read_lines
from llava_cot.data.record import DUELS, Record, Turn

# The kinds of findings, in the order in which they are reported.
FINDING_KINDS = {
    "line": "lines that hold no record",
    "id": "ids that an earlier line has",
    "picture": "pictures that cannot be used",
    "stages": "departures from the stage format",
    "contradiction": "conclusions that contradict the standard answer",
    "refusal": "refusals",
    "leak": "words of the teacher's instructions",
    "duplicate": "questions that an earlier line asks about the same picture",
    "benchmark": "questions of a benchmark",
}
T = TypeVar("T")
MOST = 1000  # findings of a kind that a report lists; all are counted
_OVERLAPS = {"picture": "its picture is in a benchmark", "text": "its question is in a benchmark"}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: its kind (one of `FINDING_KINDS`), where it is, and what it is in words."""

    kind: str
    line: int  # from 1
    id: str | None
    turn: int | None  # from 0; None if it is about the whole record
    what: str
    detail: str = ""  # a part of the kind, such as "absent"

    @property
    def name(self) -> str:
        """The kind with its detail, as it is counted: "stages: absent"."""
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


def kind_of(name: str) -> str:
    """The kind of the findings that are counted under a name."""
    return name.partition(":")[0]


@dataclass(frozen=True)
class CheckedLine:
    """A line with its findings, and the numbers of conclusions that agree and that could not be compared."""

    line: DataLine
    findings: tuple[Finding, ...]
    agreeing: int = 0
    undecided: int = 0


@dataclass
class CheckReport:
    """The findings in a whole folder.

    `records`, `turns`, `responses` and `pictures` count what its good lines hold. Of the conclusions,
    `agreeing` ones give the standard answer, the words of `undecided` ones do not tell, and `unanswered`
    responses have no conclusion or no standard answer; the rest are contradictions.
    """

    file: Path
    records: int = 0
    turns: int = 0
    responses: int = 0
    pictures: int = 0
    agreeing: int = 0
    undecided: int = 0
    unanswered: int = 0
    counts: Counter[str] = field(default_factory=Counter)  # by kind and detail ("stages: absent")
    findings: dict[str, list[Finding]] = field(default_factory=dict)  # the first `MOST` of each of these

    def add(self, checked: CheckedLine) -> None:
        """Count a line."""
        record = checked.line.record
        for finding in checked.findings:
            self.counts[finding.name] += 1
            listed = self.findings.setdefault(finding.name, [])
            if len(listed) < MOST:
                listed.append(finding)
        if record is None:
            return
        responses = sum(turn.response is not None for turn in record.turns)
        contradictions = sum(finding.kind == "contradiction" for finding in checked.findings)
        self.records += 1
        self.turns += len(record.turns)
        self.responses += responses
        self.pictures += len(record.pictures)
        self.agreeing += checked.agreeing
        self.undecided += checked.undecided
        self.unanswered += responses - checked.agreeing - checked.undecided - contradictions

    def names(self) -> list[str]:
        """The names in `counts`, in the order of `FINDING_KINDS`, the most frequent of a kind first."""
        order = list(FINDING_KINDS)
        return sorted(self.counts, key=lambda name: (order.index(kind_of(name)), -self.counts[name]))

    def to_json(self) -> dict[str, Any]:
        """The report as `data check --json` prints it."""
        keys = ("records", "turns", "responses", "pictures", "agreeing", "undecided", "unanswered")
        findings = [vars(finding) for name in self.names() for finding in self.findings[name]]
        return {
            "file": str(self.file),
            **{key: getattr(self, key) for key in keys},
            "counts": {name: self.counts[name] for name in self.names()},
            "findings": findings,
        }


def check(
    folder: Path,
    benchmarks: BenchmarkIndex | None = None,
    *,
    fmt: StageFormat = LLAVA_COT,
    on_progress: Callable[[int], None] = lambda done: None,
) -> CheckReport:
    """Check the data file of a folder, also against benchmarks. Raises DataError if there is none.

    `on_progress` gets the number of bytes read.
    """
    report = CheckReport(data_file(folder))
    for checked in check_lines(report.file, benchmarks, fmt=fmt):
        report.add(checked)
        on_progress(checked.line.end)
    return report


def check_lines(
    file: Path, benchmarks: BenchmarkIndex | None = None, *, fmt: StageFormat = LLAVA_COT
) -> Iterator[CheckedLine]:
    """The lines of a data file, each with its findings; read lazily."""
    checks = _Checks(benchmarks, fmt)
    pool = reading_threads()
    try:
        for lines in batches(read_lines(file)):
            records = [line.record for line in lines if line.record is not None]
            pictures = examine_pictures(records, pool, perceptual=benchmarks is not None)
            for line in lines:
                yield checks.of_line(line, pictures)
    finally:
        pool.shutdown(cancel_futures=True)


class _Checks:
    """Checks one line after the other, with hashes of the earlier ones."""

    def __init__(self, benchmarks: BenchmarkIndex | None, fmt: StageFormat) -> None:
        self._benchmarks, self._fmt = benchmarks, fmt
        self._ids: dict[bytes, int] = {}
        self._questions: dict[bytes, int] = {}

    def of_line(self, line: DataLine, pictures: dict[str, ExaminedPicture]) -> CheckedLine:
        record = line.record
        if record is None:
            return CheckedLine(line, (Finding("line", line.number, None, None, line.problem),))
        examined = [pictures[picture.name] for picture in record.pictures]
        findings = [*_same_id(line.number, record, self._ids), *_pictures(line, record, examined)]
        agreeing = undecided = 0
        for number, turn in enumerate(record.turns):
            if turn.response is None or record.source == DUELS:  # a judge's reply has no stages
                continue
            answer = parse(turn.response, self._fmt)
            findings += _response(line.number, record.id, number, turn, answer, self._fmt)
            conclusion = answer.conclusion
            if not conclusion or not turn.answer:
                continue
            agreement = agrees(conclusion, turn.answer, turn.options)
            agreeing += agreement is True
            undecided += agreement is None
            if agreement is False:
                what = f"{conclusion!r} where the answer is {_standard(turn)}"
                findings.append(Finding("contradiction", line.number, record.id, number, what))
        prints = [it.fingerprint for it in examined if it.fingerprint is not None]
        if not line.outside and len(prints) == len(examined):
            hashes = [it.sha256 for it in prints]
            findings += _duplicates(line.number, record, hashes, self._questions)
        if self._benchmarks is not None and (by := self._benchmarks.overlap(record, prints)):
            findings.append(Finding("benchmark", line.number, record.id, None, _OVERLAPS[by], by))
        return CheckedLine(line, tuple(findings), agreeing, undecided)


def _digest(*texts: str) -> bytes:
    text = "\0".join(texts).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16).digest()


def _same_id(number: int, record: Record, ids: dict[bytes, int]) -> Iterator[Finding]:
    first = ids.setdefault(_digest(record.id), number)
    if first != number:
        yield Finding("id", number, record.id, None, f"line {first} has this id")


def _pictures(line: DataLine, record: Record, examined: list[ExaminedPicture]) -> Iterator[Finding]:
    for name in line.outside:
        what = f"the picture {name!r} lies outside of the folder"
        yield Finding("picture", line.number, record.id, None, what, "outside")
    for picture, found in zip(record.pictures, examined, strict=True):
        if found.fingerprint is None:
            detail = "unreadable" if picture.file is not None and picture.file.is_file() else "missing"
            yield Finding("picture", line.number, record.id, None, found.why, detail)


def _response(
    line: int, id: str, number: int, turn: Turn, answer: Answer, fmt: StageFormat
) -> Iterator[Finding]:
    for departure in validate(answer.text, fmt):
        yield Finding("stages", line, id, number, departure.detail, departure.kind)
    if words := refusal(answer, turn.answer):
        yield Finding("refusal", line, id, number, f"it says {words!r}")
    for stage, words in leaks(answer, turn.text):
        yield Finding("leak", line, id, number, f"{words!r} in the {stage or 'response'}", stage or "")


def _standard(turn: Turn) -> str:
    """The standard answer for people: with the option's text, if it is a letter."""
    return repr(turn.answer) + (f" ({turn.answer_option})" if turn.answer_option is not None else "")


def _duplicates(
    number: int, record: Record, hashes: list[str], questions: dict[bytes, int]
) -> Iterator[Finding]:
    """Questions about the same pictures as an earlier one, in this record or before."""
    seen: set[bytes] = set()
    for turn in range(len(record.turns)):
        key = _digest(*hashes, question_key(replace(record, turns=record.turns[turn : turn + 1])))
        first = questions.setdefault(key, number)
        if first != number or key in seen:
            what = f"line {first} asks the same about the same picture" if hashes else f"line {first} asks it"
            yield Finding("duplicate", number, record.id, turn, what)
        seen.add(key)


@dataclass(frozen=True)
class DataView:
    """A part of a data folder: a report of all of it, and chosen lines, in their order.

    `rejects` are chosen lines of `rejects.jsonl`, if there is one, of `rejected` in all.
    """

    report: CheckReport
    chosen: tuple[CheckedLine, ...]
    rejects: tuple[dict[str, Any], ...] = ()
    rejected: int = 0


def choose_lines(
    folder: Path,
    count: int,
    seed: int = 0,
    *,
    only_findings: bool = False,
    on_progress: Callable[[int], None] = lambda done: None,
) -> DataView:
    """Check a folder, all of it since a line may repeat an earlier one, and choose up to `count` of its
    lines.

    The choice is random, and the same for the same seed; with `only_findings`, of lines in which something
    was found. `on_progress` gets the number of bytes read. Raises DataError if there is no data file.
    """
    report = CheckReport(data_file(folder))

    def lines() -> Iterable[CheckedLine]:
        for checked in check_lines(report.file):
            report.add(checked)
            on_progress(checked.line.end)
            if checked.findings or not only_findings:
                yield checked

    chosen, _ = _drawn(lines(), count, random.Random(seed))
    rejects, rejected = _drawn(_rejects(folder / "rejects.jsonl"), count, random.Random(seed))
    return DataView(report, tuple(chosen), tuple(rejects), rejected)


def _drawn(things: Iterable[T], count: int, rng: random.Random) -> tuple[list[T], int]:
    """`count` of the things, each set of them equally likely, in their order; and the number of all.

    Reservoir sampling (Vitter, 1985, algorithm R).
    """
    drawn: list[tuple[int, T]] = []
    number = -1
    for number, thing in enumerate(things):
        if len(drawn) < count:
            drawn.append((number, thing))
        elif (place := rng.randrange(number + 1)) < count:
            drawn[place] = (number, thing)
    return [thing for _, thing in sorted(drawn, key=lambda item: item[0])], number + 1


def _rejects(file: Path) -> Iterable[dict[str, Any]]:
    """The lines of a rejects file; one that cannot be read says so as its reason."""
    if not file.is_file():
        return
    with file.open("rb") as lines:
        for number, data in enumerate(lines, 1):
            if not data.strip():
                continue
            try:
                value = json.loads(data)
            except (ValueError, RecursionError):
                value = None
            yield value if isinstance(value, dict) else {"reason": f"line {number} is no JSON object"}
