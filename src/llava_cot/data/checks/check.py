"""Checks of a data folder: what would be wrong to train on, and where. Memory: a few hashes for each line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llava_cot.core.answer_matching import agrees
from llava_cot.core.stages import LLAVA_COT, StageFormat, parse, validate
from llava_cot.data.checks.giveaways import leaks, refusal
from llava_cot.data.overlap import (
    BenchmarkIndex,
    ExaminedPicture,
    batches,
    examine_pictures,
    fingerprints,
    question_key,
    reading_threads,
)
from llava_cot.data.reading import DataLine, data_file, random_items, read_lines
from llava_cot.data.record import DUELS, Record, Turn, digest

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
        findings: list[Finding] = []
        agreeing = undecided = 0

        def find(kind: str, what: str, detail: str = "", turn: int | None = None) -> None:
            findings.append(Finding(kind, line.number, record.id, turn, what, detail))

        if (earlier := self._ids.setdefault(digest(record.id), line.number)) != line.number:
            find("id", f"line {earlier} has this id")
        for name in line.outside:
            find("picture", f"the picture {name!r} lies outside of the folder", "outside")
        for picture in record.pictures:
            if pictures[picture.name].fingerprint is None:
                there = picture.file is not None and picture.file.is_file()
                find("picture", pictures[picture.name].why, "unreadable" if there else "missing")
        for number, turn in enumerate(record.turns):
            if turn.response is None or record.source == DUELS:  # a judge's reply has no stages
                continue
            answer = parse(turn.response, self._fmt)
            for departure in validate(answer.text, self._fmt):
                find("stages", departure.detail, departure.kind, number)
            if words := refusal(answer, turn.answer):
                find("refusal", f"it says {words!r}", turn=number)
            for stage, words in leaks(answer, turn.text):
                find("leak", f"{words!r} in the {stage or 'response'}", stage or "", number)
            if not answer.conclusion or not turn.answer:
                continue
            agreement = agrees(answer.conclusion, turn.answer, turn.options)
            agreeing += agreement is True
            undecided += agreement is None
            if agreement is False:
                what = f"{answer.conclusion!r} where the answer is {_standard(turn)}"
                find("contradiction", what, turn=number)
        prints = fingerprints(record, pictures)
        if not line.outside and len(prints) == len(record.pictures):
            for number, what in self._duplicates(line.number, record, [it.sha256 for it in prints]):
                find("duplicate", what, turn=number)
        if self._benchmarks is not None and (by := self._benchmarks.overlap(record, prints)):
            find("benchmark", _OVERLAPS[by], by)
        return CheckedLine(line, tuple(findings), agreeing, undecided)

    def _duplicates(self, line: int, record: Record, hashes: list[str]) -> Iterator[tuple[int, str]]:
        """Turns that ask about the same pictures what an earlier one asks, in this record or before."""
        seen: set[bytes] = set()
        for number, turn in enumerate(record.turns):
            key = digest(*hashes, question_key(replace(record, turns=(turn,))))
            first = self._questions.setdefault(key, line)
            if first != line or key in seen:
                yield number, f"line {first} asks {'the same about the same picture' if hashes else 'it'}"
            seen.add(key)


def _standard(turn: Turn) -> str:
    """The standard answer for people: with the option's text, if it is a letter."""
    return repr(turn.answer) + (f" ({turn.answer_option})" if turn.answer_option is not None else "")


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

    chosen, _ = random_items(lines(), count, seed)
    rejects, rejected = random_items(_rejects(folder / "rejects.jsonl"), count, seed)
    return DataView(report, tuple(chosen), tuple(rejects), rejected)


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
