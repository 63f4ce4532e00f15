"""The command line's `train` verb. Everything heavy is imported when it runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def train(
    recipe: Annotated[str, typer.Argument(help="A YAML file; docs/train.md tells its fields.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last whole checkpoint, if there is one.")
    ] = False,
) -> None:
    """Fine-tune a model on staged answers, as a recipe says."""
    from llava_cot.train.recipe import load_recipe

    settings = load_recipe(recipe)
    try:
        from llava_cot.train import sft
    except ModuleNotFoundError as error:
        raise ValueError(
            f"training needs {error.name}, which is not here; pip install 'llava-cot[train]'"
        ) from None

    def note(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        sft.train(settings, resume=resume, note=note)
    finally:
        sft.close()
