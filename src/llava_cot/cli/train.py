"""The command line's `train` verb. Everything heavy is imported when it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llava_cot.errors import missing_package

if TYPE_CHECKING:
    from llava_cot.train.mini.recipe import MiniRecipe


def train(
    recipe: Annotated[str, typer.Argument(help="A YAML file; docs/train.md tells its fields.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last whole checkpoint, if there is one.")
    ] = False,
) -> None:
    """Fine-tune a model on staged answers, as a recipe says."""
    from llava_cot.core.yaml_file import make_recipe, read_yaml
    from llava_cot.train.recipe import Recipe

    fields = read_yaml(recipe)
    try:
        if isinstance(fields, dict) and "mini" in fields:
            _train_mini(fields, Path(recipe), resume)
            return
        settings = make_recipe(fields, Recipe, recipe)
        from llava_cot.train import sft
    except ModuleNotFoundError as error:
        raise ValueError(missing_package("training", error.name, extra="train")) from None
    try:
        sft.train(settings, resume=resume, note=_note)
    finally:
        sft.close()


def _train_mini(fields: Any, path: Path, resume: bool) -> None:
    from llava_cot.core.yaml_file import make_recipe
    from llava_cot.train.mini.recipe import MiniRecipe, whole_recipe

    recipe: MiniRecipe = make_recipe(fields, MiniRecipe, path)
    whole = whole_recipe(recipe, path)
    from llava_cot.train.mini.run import train_mini

    _note(f"the model is in {train_mini(recipe, whole, _note, resume=resume)}")


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
