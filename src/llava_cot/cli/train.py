"""The command line's `train` verb. Everything heavy is imported when it runs."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from llava_cot.cli.options import new_app
from llava_cot.errors import needs_extra

app = new_app()


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A YAML file; docs/reference/recipes.md lists its fields.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last complete checkpoint, if there is one.")
    ] = False,
) -> None:
    """Fine-tune a model on staged answers, as a recipe says."""
    from llava_cot.core.files import make_recipe, read_yaml
    from llava_cot.core.heavy_imports import heavy_imports
    from llava_cot.train.recipe import TrainRecipe

    fields = read_yaml(recipe)
    if isinstance(fields, dict) and "pictures" in fields:
        raise ValueError(
            f"the recipe {recipe} makes mini-base; run it from a clone of the repository: "
            f"python -m research.mini {recipe}"
        )
    settings = make_recipe(fields, TrainRecipe, recipe)
    with needs_extra("training", "train"), heavy_imports():
        from llava_cot.train import training_run
    from llava_cot.view.progress import ProgressDisplay
    from llava_cot.view.summaries import show_training

    progress = ProgressDisplay(
        "steps",
        quiet=os.environ.get("RANK", "0") != "0",  # the first of several processes speaks for all
        resume_with="the same command with --resume",
        interval=10.0,
    )
    try:
        with progress:
            training_run.train(settings, resume=resume, note=_note, on_step=show_training(progress))
    finally:
        training_run.close()


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
