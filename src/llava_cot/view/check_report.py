"""The report of a check, for a terminal or a file: a table of findings with a few examples of each.

Owns the layout. What was found is `data/checking/report.py`'s subject.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from llava_cot.core.text import plural, shortened
from llava_cot.data.checks.findings import KINDS, Finding, Report, kind_of

_EXAMPLES = 3
_WIDTH = 110


def report_lines(report: Report) -> Iterator[str]:
    """The report as lines of text."""
    yield f"{report.file}: {size(report)}"
    if report.responses:
        responses = plural(report.responses, "response")
        yield f"conclusions that give the standard answer: {report.agreeing:,} of {responses}"
        yield (
            f"not checked: {report.undecided:,} where words do not tell, {report.unanswered:,} without a "
            "standard answer or a conclusion"
        )
    if not report.counts:
        yield "nothing was found"
    for kind, group in groupby(report.names(), kind_of):
        names = list(group)
        yield ""
        yield f"{sum(report.counts[name] for name in names):>7,}  {kind}: {KINDS[kind]}"
        for name in names:
            if name != kind:
                yield f"{report.counts[name]:>11,}  {name.partition(': ')[2]}"
            for finding in report.findings[name][:_EXAMPLES]:
                yield " " * 13 + shortened(f"{place(finding)}: {finding.what}", _WIDTH)


def size(report: Report) -> str:
    """How much was checked."""
    counts = (
        (report.records, "record"),
        (report.turns, "turn"),
        (report.responses, "response"),
        (report.pictures, "picture"),
    )
    return ", ".join(plural(count, noun) for count, noun in counts)


def place(finding: Finding) -> str:
    """Where a finding is, as in "line 7, chartqa/12, turn 0"."""
    parts = [f"line {finding.line}", finding.id or "", "" if finding.turn is None else f"turn {finding.turn}"]
    return ", ".join(shortened(part, 60) for part in parts if part)
