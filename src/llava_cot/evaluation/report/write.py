"""A report into a folder: `report.md`, `report.html` and the plots as files.

Owns the files' names and their order of writing. What they say is `contents.py`'s subject.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from markupsafe import Markup

from llava_cot.core.files import output_file, write_whole
from llava_cot.core.wording import plural
from llava_cot.errors import DataError
from llava_cot.evaluation.report import report_templates as templates
from llava_cot.evaluation.report.arms import Arm, arms_of, baselines
from llava_cot.evaluation.report.browse import OnProgress, browse
from llava_cot.evaluation.report.contents import contents
from llava_cot.evaluation.report.document import ReportPlot, ReportSection
from llava_cot.evaluation.report.markdown import markdown
from llava_cot.evaluation.report.report_page import report_page
from llava_cot.evaluation.results import RunResults

# What a page gives its plots, and a file has to bring along.
_PAPER = """\
.rp-plot { background: #fff; }
@media (prefers-color-scheme: dark) { .rp-plot { background: #1a1f28; } }
"""
PAGE, TEXT, PLOTS = "report.html", "report.md", "plots"


def write_report(
    results: RunResults,
    out: Path,
    *,
    baseline: str | None = None,
    paper: bool = False,
    questions: int | None = None,
    lead: Callable[[Sequence[Arm]], Sequence[ReportSection]] = lambda arms: (),
    title: str | None = None,
    on_progress: OnProgress = lambda what, done, total: None,
) -> Path:
    """Write the report; its page. `questions` is how many are shown with traces at most, None for as many as
    a page should hold. `lead` gives sections that come before all others, from the arms. The page is written
    last: where it is there anew, all is.

    Raises DataError for runs without answers, a baseline that was not run, and a folder that cannot be made;
    OSError if writing fails.
    """
    arms = arms_of(results)
    against = baselines(arms, baseline)
    _make(out / PLOTS)
    page, text = output_file(out / PAGE), output_file(out / TEXT)
    browsed = browse(results, arms, on_progress, questions)
    notes = {arm.benchmark: results.note(arm.benchmark) for arm in arms}
    sections = [*lead(arms), *contents(arms, against, browsed.decided, notes, paper=paper)]
    title = title or _title(arms)
    for section in sections:
        for part in section.parts:
            if isinstance(part, ReportPlot):
                write_whole(out / PLOTS / f"{part.name}.svg", alone(part.svg))
    write_whole(text, markdown(title, sections, PAGE, PLOTS))
    write_whole(page, report_page(title, sections, browsed))
    return page


def alone(svg: Markup) -> str:
    """A plot as a file of its own, with its style."""
    style = f"<style>{templates.read('plots.css')}{_PAPER}</style>"
    return re.sub(r"(<svg[^>]*>)", lambda found: found[1] + style, str(svg), count=1)


def _title(arms: Sequence[Arm]) -> str:
    benchmarks = list(dict.fromkeys(arm.benchmark for arm in arms))
    methods = list(dict.fromkeys(arm.method for arm in arms))
    models = list(dict.fromkeys(arm.model for arm in arms))
    names = ", ".join(benchmarks) if len(benchmarks) <= 3 else plural(len(benchmarks), "benchmark")
    asked = models[0] if len(models) == 1 else plural(len(models), "model")
    return f"{names}: {methods[0] if len(methods) == 1 else plural(len(methods), 'method')} of {asked}"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot make the folder {folder} ({error.strerror}); name another with --out"
        ) from None
