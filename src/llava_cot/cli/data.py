"""The `data` commands: sample, annotate, duels, rollouts, check, view, preferences."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from llava_cot.cli.data_rollouts import rollouts
from llava_cot.cli.options import AsJson, ModelName, Quiet, new_app, options_from
from llava_cot.models.hardware import HardwareOptions

_Folder = Annotated[str, typer.Argument(metavar="DIR", help="Holds train.jsonl or questions.jsonl.")]
_Out = Annotated[
    str, typer.Option(metavar="DIR", help="The folder to write to; an unfinished run in it is resumed.")
]

app = new_app("Make training data: sample, annotate, check.")


@app.command()
def sample(
    recipe: Annotated[str, typer.Argument(help="A recipe (YAML): sources and how many of each.")],
    out: _Out,
) -> None:
    """Draw a sample of questions from data sets by a recipe."""
    from llava_cot.data.sampling.sample import sample as draw
    from llava_cot.view.progress import ProgressDisplay

    with ProgressDisplay(resume_with="the same command") as progress:
        report = draw(recipe, out, progress)
    for source in report["sources"]:
        print(f"{source['name']}: {source['drawn']:,} of {source['read']:,}", file=sys.stderr)
    print(f"{out} has {report['drawn']:,} questions", file=sys.stderr)


@app.command()
@options_from("hardware", HardwareOptions)
def annotate(
    *,
    source: Annotated[str, typer.Argument(metavar="IN", help="A folder or file of questions.")],
    out: _Out,
    teacher: Annotated[
        str, typer.Option(help="A model, as for `ask`, or 'scenes', the program that makes the scenes.")
    ],
    model_name: ModelName = None,
    at_once: Annotated[int, typer.Option(metavar="N", help="The most questions in flight.")] = 256,
    budget: Annotated[
        str | None,
        typer.Option(help="The most to spend on DIR over all runs: '5usd', or '200' for so many questions."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what is pending and an estimate of its cost; make no calls."),
    ] = False,
    hardware: HardwareOptions,
    quiet: Quiet = False,
) -> None:
    """Have a teacher write the four stages of every answer, and check them."""
    from llava_cot.data.annotation.annotate import annotate_to, check_folder, estimate_for
    from llava_cot.data.annotation.estimate import price_of
    from llava_cot.data.annotation.procedure import parse_budget
    from llava_cot.data.annotation.teachers import open_teacher
    from llava_cot.data.reading import RecordFile
    from llava_cot.view.progress import ProgressDisplay
    from llava_cot.view.summaries import annotation_end, show_annotation

    folder, records = Path(out), RecordFile(source)
    limit = parse_budget(budget) if budget is not None else None
    if dry_run:
        print(estimate_for(folder, records, price_of(teacher, model_name)))
        return
    check_folder(folder)
    progress = ProgressDisplay("records", len(records), quiet=quiet, resume_with="the same command")
    with open_teacher(teacher, model_name, at_once, **hardware.given()) as opened, progress:
        done = annotate_to(
            folder, records, opened,
            at_once=at_once, budget=limit,
            on_progress=show_annotation(progress), on_interrupt=progress.interrupting,
        )  # fmt: skip
    progress.notes(annotation_end(folder, done))
    raise typer.Exit(0 if done.complete else 1)


@app.command()
@options_from("hardware", HardwareOptions)
def duels(
    *,
    source: Annotated[str, typer.Argument(metavar="IN", help="A folder or file of questions with answers.")],
    model: Annotated[str, typer.Option(help="The model whose candidates are compared, as for `ask`.")],
    out: _Out,
    model_name: ModelName = None,
    candidates: Annotated[int, typer.Option(help="Candidates to sample at each stage.")] = 4,
    rollouts: Annotated[int, typer.Option(help="Completions that show how good a candidate is.")] = 4,
    stages: Annotated[
        str,
        typer.Option(help="Some of summary, caption, reasoning, conclusion, and answer for the whole one."),
    ] = "caption,reasoning,conclusion,answer",
    sure: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="A pair is labeled if this share of one's rollouts is right, and of the other's wrong.",
        ),
    ] = 0.75,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="Use only the first K questions.")
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, metavar="N", help="The most questions in flight.")] = 64,
    seed: Annotated[int, typer.Option(help="The same seed gives the same candidates.")] = 0,
    hardware: HardwareOptions,
    quiet: Quiet = False,
) -> None:
    """Make training data for the self-judge from a model's own candidates, labeled by rollouts."""
    from contextlib import closing

    from llava_cot.data.reading import RecordFile
    from llava_cot.data.rollouts.duel_set import checkable, make_duels
    from llava_cot.data.rollouts.duels import DuelSettings
    from llava_cot.data.store import check_store_folder
    from llava_cot.errors import DataError
    from llava_cot.models.registry import open_model
    from llava_cot.view.progress import ProgressDisplay
    from llava_cot.view.summaries import duels_end, show_annotation

    folder, records = Path(out), RecordFile(source)
    named = tuple(name for name in map(str.strip, stages.split(",")) if name)
    settings = DuelSettings(candidates, rollouts, named, sure, seed=seed)
    check_store_folder(folder)
    total = sum(1 for _ in checkable(records, limit))
    if not total:
        raise DataError(f"{records.file} has no question whose answers can be checked by comparing words")
    progress = ProgressDisplay("questions", total, quiet=quiet, resume_with="the same command")
    opened = open_model(model, model_name=model_name, **hardware.given(), in_flight=at_once)
    with closing(opened), progress:
        done = make_duels(
            folder, records, opened, settings,
            limit=limit, at_once=at_once, on_progress=show_annotation(progress),
        )  # fmt: skip
    progress.notes(duels_end(folder, done))
    raise typer.Exit(1 if done.summary.pending else 0)


app.command()(rollouts)

_Benchmarks = Annotated[
    list[str] | None,
    typer.Option(
        "--benchmark",
        metavar="BENCH",
        help="Find its questions: a public benchmark by name, a TSV of VLMEvalKit, or a folder or file of "
        "records. Repeatable.",
    ),
]


@app.command()
def check(folder: _Folder, benchmark: _Benchmarks = None, as_json: AsJson = False) -> None:
    """Find what would be wrong to train on. The exit status is 1 if anything was found."""
    from llava_cot.data.checks.check import check as check_folder
    from llava_cot.data.overlap import load_benchmarks
    from llava_cot.data.reading import data_file
    from llava_cot.evaluation.benchmarks.vlmevalkit import benchmark_file
    from llava_cot.view.progress import ProgressDisplay
    from llava_cot.view.summaries import check_report

    size = data_file(Path(folder)).stat().st_size
    with ProgressDisplay() as progress:
        index = None
        if benchmark:
            files = [benchmark_file(name) for name in benchmark]
            index = load_benchmarks(files, on_progress=lambda done: progress("reading benchmarks", done))
        report = check_folder(Path(folder), index, on_progress=lambda done: progress("checking", done, size))
    if as_json:
        print(json.dumps(report.to_json()))
    else:
        print(*check_report(report), sep="\n")
    if report.counts:
        raise typer.Exit(1)


@app.command()
def view(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="Holds train.jsonl, questions.jsonl or rollouts.jsonl.")
    ],
    out: Annotated[str, typer.Option(metavar="PAGE", help="Write one self-contained page.")],
    count: Annotated[int, typer.Option(min=1, help="The most records to show.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed shows the same records.")] = 0,
    only: Annotated[
        Literal["findings"] | None, typer.Option(help="Only records in which something was found.")
    ] = None,
) -> None:
    """Write a page to look through some of the records, with the findings of `check`, or of the rollouts."""
    from llava_cot.core.files import output_file, write_whole
    from llava_cot.data.checks.check import choose_lines
    from llava_cot.data.reading import data_file
    from llava_cot.data.rollouts.rollout_file import ROLLOUT_FILE
    from llava_cot.view.progress import ProgressDisplay
    from llava_cot.view.records_page import records_page
    from llava_cot.view.rollouts_page import rollouts_page

    if (Path(folder) / ROLLOUT_FILE).is_file():
        if only is not None:
            raise ValueError("--only findings is for records, and rollouts are not checked; leave it out")
        output_file(out)
        write_whole(out, rollouts_page(Path(folder), count, seed))
        print(f"wrote {out}", file=sys.stderr)
        return
    size = data_file(Path(folder)).stat().st_size
    output_file(out)
    with ProgressDisplay() as progress:
        view = choose_lines(
            Path(folder), count, seed, only_findings=only is not None,
            on_progress=lambda done: progress("checking", done, size),
        )  # fmt: skip
    write_whole(out, records_page(view))
    print(f"wrote {out}", file=sys.stderr)


@app.command()
def preferences(
    traces: Annotated[
        list[str],
        typer.Argument(help="Traces of `ask --trace`: files, folders, or .jsonl with one in each line."),
    ],
    out: Annotated[str, typer.Option(metavar="DIR", help="A new folder for pairs, answers and pictures.")],
    keep_wrong: Annotated[
        bool, typer.Option("--keep-wrong", help="Keep pairs whose winner the reference shows to be wrong.")
    ] = False,
) -> None:
    """Make preference pairs for each stage, and records of winning answers, from traces."""
    from llava_cot.core.wording import plural
    from llava_cot.data.preferences.from_traces import make_preferences
    from llava_cot.view.progress import ProgressDisplay

    with ProgressDisplay() as progress:
        made = make_preferences(
            [Path(path) for path in traces],
            Path(out),
            keep_wrong=keep_wrong,
            on_progress=lambda done: progress("reading traces", done),
        )
    pairs, answers = plural(made.pairs, "pair"), plural(made.answers, "answer")
    print(f"wrote {out}: {pairs} and {answers} from {plural(made.traces, 'trace')}", file=sys.stderr)
    if left := made.left_out():
        print(f"left out: {left}", file=sys.stderr)
