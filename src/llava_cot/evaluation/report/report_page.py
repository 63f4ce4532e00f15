"""A report as one self-contained HTML page, in which every question can be looked at.

Owns what the template needs to know. What models and data say is hostile here: everything is escaped, the
page runs nothing but its own script, by its hash, and may load nothing from anywhere.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from itertools import groupby

from markupsafe import Markup

from llava_cot.evaluation.report import report_templates as templates
from llava_cot.evaluation.report.browse import Browsed
from llava_cot.evaluation.report.document import ReportPlot, ReportSection, ReportTable
from llava_cot.view.html import stylesheet


def report_page(title: str, sections: Sequence[ReportSection], browsed: Browsed) -> str:
    """The page that shows all and needs nothing else."""
    style = stylesheet() + templates.read("plots.css") + templates.read("report.css")
    script = "{\n" + templates.read("question.js") + templates.read("report.js") + "}\n"  # one scope
    return templates.render(
        "report.html.j2",
        title=title,
        sections=[(section.title, _runs(section)) for section in sections],
        browsed=browsed,
        style=Markup(style),
        style_hash=_hash(style),
        script=Markup(script),
        script_hash=_hash(script),
    )


def _runs(section: ReportSection) -> list[tuple[str, list[ReportTable | ReportPlot | str]]]:
    """The parts, those of one kind that follow one another together."""
    return [(kind, list(parts)) for kind, parts in groupby(section.parts, _kind)]


def _kind(part: ReportTable | ReportPlot | str) -> str:
    return "table" if isinstance(part, ReportTable) else "plot" if isinstance(part, ReportPlot) else "text"


def _hash(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()
