"""A report as Markdown, with links to its plots. Names and reasons come from data, so markup is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

from llava_cot.core.wording import one_line
from llava_cot.evaluation.report.document import Cell, ReportPlot, ReportSection, ReportTable

_MARKUP = re.compile(r"([\\`*_{}\[\]<>|~#&!])")
_AROUND = {"reported": "*", "best": "**"}
_SIGNS = {"better": " ▲", "worse": " ▼"}


def report_markdown(title: str, sections: Sequence[ReportSection], page: str, plots: str) -> str:
    """Write the report; `page` is the file of the HTML page, `plots` the folder of the plots."""
    parts = [
        f"# {escape(title)}",
        f"Every question, with its picture and its search, is in [{page}]({page}).",
    ]
    for section in sections:
        parts.append(f"## {escape(section.title)}")
        for part in section.parts:
            if isinstance(part, ReportTable):
                parts += [f"### {escape(part.title)}", _table(part)]
                parts += [escape(part.note)] if part.note else []
            elif isinstance(part, ReportPlot):
                parts.append(f"![{escape(section.title)}: {escape(part.title)}]({plots}/{part.name}.svg)")
            else:
                parts.append(escape(part))
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    return _MARKUP.sub(r"\\\1", one_line(text))


def _table(table: ReportTable) -> str:
    lines = [
        [escape(name) for name in table.head],
        ["---" if column < table.names else "---:" for column in range(len(table.head))],
        *([_cell(cell) for cell in row] for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    below = f" ({escape(cell.below)})" if cell.below else ""
    around = _AROUND.get(cell.mark, "")
    return f"{around}{escape(cell.text)}{around}{_SIGNS.get(cell.mark, '')}{below}"
