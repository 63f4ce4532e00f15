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
        Path | None, typer.Option(metavar="FOLDER", help="Where to write to; the first DIR if not given.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="What is compared with: a method, a model, or MODEL:METHOD."),
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Lay the paper's own figures beside.")] = False,
    questions: Annotated[
        int | None,
        typer.Option(metavar="K", min=0, help="The most questions to show with pictures and traces."),
    ] = None,
) -> None:
    """Write what runs have come to: tables, plots, and every question to look at."""
    from llava_cot.evaluation.report.write import write_report
    from llava_cot.evaluation.results import open_results
    from llava_cot.view.progress import ProgressDisplay

    once = list({folder.resolve(): folder for folder in folders}.values())
    with open_results(once) as results, ProgressDisplay() as progress:
        page = write_report(
            results,
            out or folders[0],
            baseline=baseline,
            paper=paper,
            questions=questions,
            on_progress=progress,
        )
    print(f"wrote {page}", file=sys.stderr)
