"""The report of a check, for a terminal or a file: a table of findings with a few examples of each.

Owns the layout. What was found is `data/findings.py`'s subject.
"""

from __future__ import annotations

from collections.abc import Iterator

from llava_cot.data.findings import KINDS, Finding, Report
from llava_cot.show.words import plural, shortened

_EXAMPLES = 3
_WIDTH = 110


def report_lines(report: Report) -> Iterator[str]:
    """The report as lines of text."""
    responses = plural(report.responses, "response")
    yield (
        f"{report.file}: {plural(report.records, 'record')}, {plural(report.turns, 'turn')}, {responses}, "
        f"{plural(report.pictures, 'picture')}"
    )
    if report.responses:
        yield f"conclusions that give the standard answer: {report.agreeing:,} of {responses}"
        yield (
            f"not checked: {report.undecided:,} where words do not tell, {report.unanswered:,} without a "
            "standard answer or a conclusion"
        )
    if not report.counts:
        yield "nothing was found"
        return
    names = report.names()
    width = max(len(f"{count:,}") for count in report.counts.values())
    for name in names:
        yield ""
        yield f"{report.counts[name]:>{width},}  {name}: {KINDS[name.split(':')[0]]}"
        for finding in report.findings[name][:_EXAMPLES]:
            yield " " * (width + 4) + shortened(f"{place(finding)}: {finding.what}", _WIDTH)


def place(finding: Finding) -> str:
    """Where a finding is, as in "line 7, chartqa/12, turn 0"."""
    parts = [f"line {finding.line}", finding.id or "", "" if finding.turn is None else f"turn {finding.turn}"]
    return ", ".join(shortened(part, 60) for part in parts if part)
