"""The command line's `data` verbs: sample, annotate, check, view, duels, preferences.

Owns their options. Everything heavy is imported by the verb that needs it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llava_cot.data.overlap import Benchmarks

data_app = typer.Typer(help="Make data to train on: sample, annotate, check.", no_args_is_help=True)

_Benchmarks = Annotated[
    list[str] | None,
    typer.Option(
        "--benchmark",
        metavar="PATH",
        help="A TSV of VLMEvalKit, or a folder or .jsonl of records, to find questions of; may be repeated.",
    ),
]


@data_app.command()
def check(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Holds train.jsonl or questions.jsonl.")],
    benchmark: _Benchmarks = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Find what would be wrong to train on. Exit status 1 if anything was found."""
    from llava_cot.data.check import check as check_folder
    from llava_cot.data.looking import usual_processes
    from llava_cot.data.reading import data_file
    from llava_cot.show.findings import report_lines
    from llava_cot.show.progress import progress

    size = data_file(Path(folder)).stat().st_size
    benchmarks = _benchmarks(benchmark)
    with progress("checking", size) as advance:
        report = check_folder(Path(folder), benchmarks, processes=usual_processes(), on_progress=advance)
    if as_json:
        print(json.dumps(report.to_json()))
    else:
        print(*report_lines(report), sep="\n")
    if report.counts:
        raise typer.Exit(1)


def _benchmarks(paths: list[str] | None) -> Benchmarks | None:
    if not paths:
        return None
    from llava_cot.data.benchmarks import load_benchmarks
    from llava_cot.show.progress import progress

    with progress("reading benchmarks", None) as advance:
        return load_benchmarks([Path(path) for path in paths], on_progress=advance)
