"""The command line's `report` verb. Everything heavy is imported when it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from llava_cot.cli.options import new_app

app = new_app()


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of `llava-cot eval`.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write it; the first DIR if not given.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="What all are compared with: a method, a model, or MODEL:METHOD."),
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Show the paper's own results, too.")] = False,
    questions: Annotated[
        int | None,
        typer.Option(metavar="K", min=0, help="The most questions to show with pictures and traces."),
    ] = None,
) -> None:
    """Write a report on runs: tables, plots, and every question with its answers."""
    from llava_cot.evaluation.results import RunResults
    from llava_cot.evaluation.statistics import check_scipy
    from llava_cot.view.progress import ProgressDisplay
    from llava_cot.view.report_page import write_report

    check_scipy()
    once = list({folder.resolve(): folder for folder in folders}.values())
    with RunResults(once) as results, ProgressDisplay() as progress:
        page = write_report(
            results,
            out or folders[0],
            baseline=baseline,
            paper=paper,
            questions=questions,
            on_progress=progress,
        )
    print(f"wrote {page}", file=sys.stderr)
