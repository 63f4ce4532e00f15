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
