"""The command line's `data` verbs: sample, annotate, check, view, duels, preferences.

Owns their options. Everything heavy is imported by the verb that needs it.
"""

from __future__ import annotations

from typing import Annotated

import typer

data_app = typer.Typer(help="Make data to train on: sample, annotate, check.", no_args_is_help=True)


@data_app.command()
def annotate(
    source: Annotated[str, typer.Argument(metavar="IN", help="A folder or file of questions.")],
    out: Annotated[str, typer.Option(metavar="DIR", help="The folder to write to, or to go on with.")],
    teacher: Annotated[
        str, typer.Option(help="A model, as --model elsewhere, or 'scenes', the program behind the scenes.")
    ],
    model_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which of a server's models, if it has several.")
    ] = None,
    at_once: Annotated[int, typer.Option(metavar="N", help="The most questions in flight.")] = 256,
    budget: Annotated[
        str | None,
        typer.Option(help="The most to spend on DIR over all runs: '5usd', or '200' for so many questions."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is owed and what it would cost; ask nothing.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on standard error.")] = False,
) -> None:
    """Have a teacher write the four stages of every answer, and check them."""
    from pathlib import Path

    from rich.console import Console

    from llava_cot.data.calls import parse_budget
    from llava_cot.data.estimate import price_of
    from llava_cot.data.job import annotate_to, check_folder, estimate_for
    from llava_cot.data.reading import Questions
    from llava_cot.data.teachers import open_teacher
    from llava_cot.show.annotating import AnnotatingView

    folder, records = Path(out), Questions(source)
    limit = parse_budget(budget) if budget is not None else None
    if dry_run:
        print(estimate_for(folder, records, price_of(teacher, model_name)))
        return
    check_folder(folder)
    view = AnnotatingView(Console(stderr=True, quiet=quiet, highlight=False), len(records))
    with open_teacher(teacher, model_name, at_once, device, dtype) as opened, view:
        done = annotate_to(
            folder, records, opened,
            at_once=at_once, budget=limit, on_progress=view, on_interrupt=view.interrupted,
        )  # fmt: skip
    view.end(folder, done)
    raise typer.Exit(1 if done.end.failed or done.end.gave_up else 0)


@data_app.command()
def duels(
    source: Annotated[str, typer.Argument(metavar="IN", help="A folder or file of questions with answers.")],
    model: Annotated[str, typer.Option(help="Whose candidates: a model, as --model elsewhere.")],
    out: Annotated[str, typer.Option(metavar="DIR", help="The folder to write to, or to go on with.")],
    model_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which of a server's models, if it has several.")
    ] = None,
    candidates: Annotated[int, typer.Option(help="Sampled at each stage.")] = 4,
    rollouts: Annotated[int, typer.Option(help="Completions that tell what a candidate is worth.")] = 4,
    stages: Annotated[
        str, typer.Option(help="Some of summary, caption, reasoning, conclusion and answer, the whole one.")
    ] = "caption,reasoning,conclusion,answer",
    sure: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="A pair counts if this share of the one's rollouts is right, and of the other's wrong.",
        ),
    ] = 0.75,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="The first K questions alone.")
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, metavar="N", help="The most questions in flight.")] = 64,
    seed: Annotated[int, typer.Option(help="The same seed gives the same candidates.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on standard error.")] = False,
) -> None:
    """Make training data for the self-judge: a model's own candidates, labelled by what comes of them."""
    from contextlib import closing
    from pathlib import Path

    from rich.console import Console

    from llava_cot.data.duel_files import checkable
    from llava_cot.data.duel_set import make_duels
    from llava_cot.data.duels import Settings
    from llava_cot.data.reading import Questions
    from llava_cot.data.records import DataError
    from llava_cot.models import open_model
    from llava_cot.show.annotating import AnnotatingView
    from llava_cot.show.duels import end_lines
    from llava_cot.store import check_own

    folder, records = Path(out), Questions(source)
    named = tuple(name for name in map(str.strip, stages.split(",")) if name)
    settings = Settings(candidates, rollouts, named, sure, seed=seed)
    check_own(folder)
    total = sum(1 for _ in checkable(records, limit))
    if not total:
        raise DataError(f"{records.file} has no question whose answer can be checked by comparing it")
    console = Console(stderr=True, quiet=quiet, highlight=False)
    opened = open_model(model, model_name=model_name, device=device, dtype=dtype, in_flight=at_once)
    try:
        with closing(opened), AnnotatingView(console, total) as view:
            done = make_duels(
                folder, records, opened, settings, limit=limit, at_once=at_once, on_progress=view
            )
    except KeyboardInterrupt:
        console.out("finished questions are kept; the same command goes on", highlight=False)
        raise
    for line in end_lines(folder, done):
        console.out(line, highlight=False)
    raise typer.Exit(1 if done.summary.owed else 0)
