"""Checks a folder of records, line by line: what would be wrong to train on, and where.

Owns which checks there are. How each of them tells is the subject of `agreement.py`, `giveaways.py`,
`overlap.py` and `stages.py`. Between lines it keeps hashes alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from llava_cot.core.answer_matching import agrees
from llava_cot.core.stages import LLAVA_COT, Answer, StageFormat, parse, validate
from llava_cot.data.checks.giveaways import leaks, refusal
from llava_cot.data.overlap import BenchmarkIndex, Looked, batches, look, question_key, threads
from llava_cot.data.reading import DataLine, data_file, read_lines
from llava_cot.data.record import DUELS, Record, Turn

_OVERLAPS = {"picture": "its picture is in a benchmark", "text": "its question is in a benchmark"}


def check(
    folder: Path,
    benchmarks: BenchmarkIndex | None = None,
    *,
    fmt: StageFormat = LLAVA_COT,
    on_progress: Callable[[int], None] | None = None,
) -> CheckReport:
    """Check a folder; see `examine`."""
    report = CheckReport(data_file(folder))
    for examined in examine(report.file, benchmarks, fmt=fmt):
        report.add(examined)
        if on_progress:
            on_progress(examined.line.end)
    return report


def examine(
    file: Path, benchmarks: BenchmarkIndex | None = None, *, fmt: StageFormat = LLAVA_COT
) -> Iterator[CheckedLine]:
    """The lines of a data file, each with what is wrong in it, as far as they are asked for."""
    checks = _Checks(benchmarks, fmt)
    pool = threads()
    try:
        for lines in batches(read_lines(file)):
            records = [line.record for line in lines if line.record is not None]
            found = look(records, pool, known=lambda _: None, perceptual=benchmarks is not None)
            for line in lines:
                yield checks.of_line(line, found)
    finally:
        pool.shutdown(cancel_futures=True)


class _Checks:
    """The checks of one line after the other; keeps hashes of those before."""

    def __init__(self, benchmarks: BenchmarkIndex | None, fmt: StageFormat) -> None:
        self._benchmarks, self._fmt = benchmarks, fmt
        self._ids: dict[bytes, int] = {}
        self._asked: dict[bytes, int] = {}

    def of_line(self, line: DataLine, found: dict[str, Looked]) -> CheckedLine:
        record = line.record
        if record is None:
            return CheckedLine(line, (Finding("line", line.number, None, None, line.problem),))
        looks = [found[picture.name] for picture in record.pictures]
        findings = [*_same_id(line.number, record, self._ids), *_pictures(line, record, looks)]
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
        prints = [it.fingerprint for it in looks if it.fingerprint is not None]
        if not line.outside and len(prints) == len(looks):
            pictures = [it.sha256 for it in prints]
            findings += _asked_before(line.number, record, pictures, self._asked)
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


def _pictures(line: DataLine, record: Record, looks: list[Looked]) -> Iterator[Finding]:
    for name in line.outside:
        what = f"the picture {name!r} lies outside of the folder"
        yield Finding("picture", line.number, record.id, None, what, "outside")
    for picture, looked in zip(record.pictures, looks, strict=True):
        if looked.fingerprint is None:
            detail = "unreadable" if picture.file is not None and picture.file.is_file() else "missing"
            yield Finding("picture", line.number, record.id, None, looked.why, detail)


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
    """The standard answer for people: with the option's text, where it is a letter."""
    index = ord(turn.answer) - ord("A") if turn.answer and len(turn.answer) == 1 else -1
    known = 0 <= index < len(turn.options)
    return f"{turn.answer!r} ({turn.options[index]})" if known else repr(turn.answer)


def _asked_before(
    number: int, record: Record, pictures: list[str], asked: dict[bytes, int]
) -> Iterator[Finding]:
    """Questions that were asked about the same pictures before, in this record or an earlier one."""
    seen: set[bytes] = set()
    for turn in range(len(record.turns)):
        key = _digest(*pictures, question_key(replace(record, turns=record.turns[turn : turn + 1])))
        first = asked.setdefault(key, number)
        if first != number or key in seen:
            what = f"line {first} asks the same about the same picture"
            yield Finding("duplicate", number, record.id, turn, what if pictures else f"line {first} asks it")
        seen.add(key)


# What is looked for, in the order in which it is reported.
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
MOST = 1000  # findings of a kind that a report holds; all are counted


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `kind` is one of KINDS, of which `detail` names a part ("absent").

    `line` counts from 1, `turn` from 0 as a record's turns do; None where it is the whole record's.
    """

    kind: str
    line: int
    id: str | None
    turn: int | None
    what: str
    detail: str = ""

    @property
    def name(self) -> str:
        """The kind with its detail, as it is counted: "stages: absent"."""
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


def kind_of(name: str) -> str:
    """The kind of findings that are counted under this name."""
    return name.partition(":")[0]


@dataclass(frozen=True)
class CheckedLine:
    """A line with all that was found in it, and how many conclusions agree, or could not be compared."""

    line: DataLine
    findings: tuple[Finding, ...]
    agreeing: int = 0
    undecided: int = 0


@dataclass
class CheckReport:
    """What a whole folder holds. `counts` are of all findings, by kind and detail ("stages: absent").

    Of the `responses`, `agreeing` conclusions give the standard answer; of `undecided` ones the words do not
    tell, and `unanswered` have no standard answer or no conclusion. The rest are contradictions.
    """

    file: Path
    records: int = 0
    turns: int = 0
    responses: int = 0
    pictures: int = 0
    agreeing: int = 0
    undecided: int = 0
    unanswered: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    findings: dict[str, list[Finding]] = field(default_factory=dict)

    def add(self, examined: CheckedLine) -> None:
        record = examined.line.record
        for finding in examined.findings:
            self.counts[finding.name] += 1
            kept = self.findings.setdefault(finding.name, [])
            if len(kept) < MOST:
                kept.append(finding)
        if record is None:
            return
        responses = sum(turn.response is not None for turn in record.turns)
        contradictions = sum(finding.kind == "contradiction" for finding in examined.findings)
        self.records += 1
        self.turns += len(record.turns)
        self.responses += responses
        self.pictures += len(record.pictures)
        self.agreeing += examined.agreeing
        self.undecided += examined.undecided
        self.unanswered += responses - examined.agreeing - examined.undecided - contradictions

    def names(self) -> list[str]:
        """The names in `counts`, in the order of KINDS, the most frequent first among those of one kind."""
        order = list(FINDING_KINDS)
        return sorted(self.counts, key=lambda name: (order.index(kind_of(name)), -self.counts[name]))

    def to_json(self) -> dict[str, Any]:
        keys = ("records", "turns", "responses", "pictures", "agreeing", "undecided", "unanswered")
        findings = [vars(finding) for name in self.names() for finding in self.findings[name]]
        return {
            "file": str(self.file),
            **{key: getattr(self, key) for key in keys},
            "counts": {name: self.counts[name] for name in self.names()},
            "findings": findings,
        }
