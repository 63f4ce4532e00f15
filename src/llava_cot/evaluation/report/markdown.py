"""A report as Markdown, which links its plots.

Owns the writing. Names and reasons come from data: what would be markup is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llava_cot.core.wording import one_line
from llava_cot.evaluation.report.document import Cell, ReportPlot, ReportSection, ReportTable

_MARKUP = re.compile(r"([\\`*_{}\[\]<>|~#&!])")
_AROUND = {"reported": "*", "best": "**"}
_SIGNS = {"better": " ▲", "worse": " ▼"}


def markdown(title: str, sections: Sequence[ReportSection], page: str, plots: str) -> str:
    """The whole text. `page` is where the questions are to be seen, `plots` the folder of the plots."""
    parts = [
        f"# {escaped(title)}",
        f"Every question, with its picture and its search, is in [{page}]({page}).",
    ]
    for section in sections:
        parts.append(f"## {escaped(section.title)}")
        for part in section.parts:
            if isinstance(part, ReportTable):
                parts += [
                    f"### {escaped(part.title)}",
                    _table(part),
                    *([escaped(part.note)] if part.note else []),
                ]
            elif isinstance(part, ReportPlot):
                parts.append(f"![{escaped(section.title)}: {escaped(part.title)}]({plots}/{part.name}.svg)")
            else:
                parts.append(escaped(part))
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\1", one_line(text))


def _table(table: ReportTable) -> str:
    lines = [
        [escaped(name) for name in table.head],
        ["---" if column < table.names else "---:" for column in range(len(table.head))],
        *([_cell(cell) for cell in row] for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    below = f" ({escaped(cell.below)})" if cell.below else ""
    text = escaped(cell.text)
    around = _AROUND.get(cell.mark, "")
    return f"{around}{text}{around}{_SIGNS.get(cell.mark, '')}{below}"
