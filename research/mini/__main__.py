"""Trains mini, or one of its ablations, from a recipe: `python -m research.mini RECIPE [--resume]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llava_cot.core.files import read_recipe
from llava_cot.core.heavy_imports import heavy_imports, own_process
from research.mini.recipe import MiniRecipe, whole_recipe


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m research.mini", description="Train mini, or one of its ablations, from a recipe."
    )
    parser.add_argument("recipe", type=Path, help="one of research/mini/recipes/*.yaml, or one like them")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")
    options = parser.parse_args()
    own_process()
    try:
        recipe = read_recipe(options.recipe, MiniRecipe)
        whole = whole_recipe(recipe, options.recipe)
        with heavy_imports():
            from research.mini.run import train_mini

        note(f"the model is in {train_mini(recipe, whole, note, resume=options.resume)}")
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
