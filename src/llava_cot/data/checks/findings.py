"""What a check of data finds, and what it comes to over a whole folder.

Owns the kinds of findings and the report, which grows with what is found up to a bound. Knows no check.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llava_cot.data.reading import Line

# What is looked for, in the order in which it is reported.
KINDS = {
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
class Examined:
    """A line with all that was found in it, and how many conclusions agree, or could not be compared."""

    line: Line
    findings: tuple[Finding, ...]
    agreeing: int = 0
    undecided: int = 0


@dataclass
class Report:
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

    def add(self, examined: Examined) -> None:
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
        order = list(KINDS)
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
