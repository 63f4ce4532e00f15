"""Writing a report into a folder: Markdown, one self-contained HTML page, and the plots as files.

What models and data say is untrusted: everything is escaped, the page runs only its own script, by its hash,
and loads nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from llava_cot.core.files import output_file, write_whole
from llava_cot.core.wording import one_line, plural, writable
from llava_cot.errors import DataError
from llava_cot.evaluation.report.arms import Arm, arms_of, baselines
from llava_cot.evaluation.report.contents import contents
from llava_cot.evaluation.report.document import Cell, ReportPlot, ReportSection, ReportTable
from llava_cot.evaluation.report.judging import ArmJudging
from llava_cot.evaluation.results import RunResults
from llava_cot.view.html import inline, read_asset, stylesheet, template_environment
from llava_cot.view.report_charts import STYLE, draw, draw_file
from llava_cot.view.report_questions import EmbeddedQuestions, OnProgress, embed_questions

# Makes sections from all arms, and what their traces say of their judges.
Lead = Callable[[Sequence[Arm], Mapping[Arm, ArmJudging]], Sequence[ReportSection]]

PAGE, TEXT, PLOTS = "report.html", "report.md", "plots"
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|~#&!])")  # of Markdown
_AROUND = {"reported": "*", "best": "**"}
_SIGNS = {"better": " ▲", "worse": " ▼"}


def write_report(
    results: RunResults,
    out: Path,
    *,
    baseline: str | None = None,
    paper: bool = False,
    questions: int | None = None,
    lead: Lead = lambda arms, judging: (),
    title: str | None = None,
    on_progress: OnProgress = lambda what, done, total: None,
) -> Path:
    """Write a report on runs and return the path of its page, which is written last.

    Args:
        out: The folder; made if it is not there.
        baseline: What is compared with; see `arms.baselines`.
        paper: Whether to show the paper's own results.
        questions: How many questions are shown with traces at most; None for as many as a page should hold.
        lead: Returns the sections that come before all others.
        on_progress: Called with what is being done, how far it is, and of how much.

    Raises:
        DataError: for runs without answers, a baseline that was not run, a folder that cannot be made, or a
            package that is not installed.
        OSError: if writing fails.
    """
    arms = arms_of(results)
    against = baselines(arms, baseline)
    _make(out / PLOTS)
    page, text = output_file(out / PAGE), output_file(out / TEXT)
    embedded = embed_questions(results, arms, on_progress, questions)
    notes = {arm.benchmark: results.note(arm.benchmark) for arm in arms}
    sections = [*lead(arms, embedded.judging), *contents(arms, against, embedded.judging, notes, paper=paper)]
    title = title or _title(arms)
    for section in sections:
        for part in section.parts:
            if isinstance(part, ReportPlot):
                write_whole(out / PLOTS / f"{part.name}.svg", draw_file(part))
    write_whole(text, report_markdown(title, sections))
    write_whole(page, report_page(title, sections, embedded))
    return page


def report_page(title: str, sections: Sequence[ReportSection], embedded: EmbeddedQuestions) -> str:
    """Render the report as one self-contained HTML page."""
    script = "{\n" + read_asset("report.js") + "}\n"  # a scope of its own
    template = template_environment(writable, draw=draw).get_template("report.html.j2")
    return template.render(
        title=title,
        sections=[
            (section.title, [(kind, list(parts)) for kind, parts in groupby(section.parts, _kind)])
            for section in sections
        ],
        embedded=embedded,
        **inline(stylesheet() + STYLE + read_asset("report.css"), script),
    )


def _kind(part: ReportTable | ReportPlot | str) -> str:
    return "table" if isinstance(part, ReportTable) else "plot" if isinstance(part, ReportPlot) else "text"


def _title(arms: Sequence[Arm]) -> str:
    benchmarks = list(dict.fromkeys(arm.benchmark for arm in arms))
    methods = list(dict.fromkeys(arm.method for arm in arms))
    models = list(dict.fromkeys(arm.model for arm in arms))
    names = ", ".join(benchmarks) if len(benchmarks) <= 3 else plural(len(benchmarks), "benchmark")
    model = models[0] if len(models) == 1 else plural(len(models), "model")
    return f"{names}: {methods[0] if len(methods) == 1 else plural(len(methods), 'method')} of {model}"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot make the folder {folder} ({error.strerror}); name another with --out"
        ) from None


def report_markdown(title: str, sections: Sequence[ReportSection]) -> str:
    """Write the report as Markdown, with links to its page and plots."""
    parts = [
        f"# {escape(title)}",
        f"Every question, with its picture and its search, is in [{PAGE}]({PAGE}).",
    ]
    for section in sections:
        parts.append(f"## {escape(section.title)}")
        for part in section.parts:
            if isinstance(part, ReportTable):
                parts += [f"### {escape(part.title)}", _table(part)]
                parts += [escape(part.note)] if part.note else []
            elif isinstance(part, ReportPlot):
                parts.append(f"![{escape(section.title)}: {escape(part.title)}]({PLOTS}/{part.name}.svg)")
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
