"""Trains mini-base from a recipe: `python -m research.mini RECIPE [--resume]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llava_cot.core.files import read_recipe
from llava_cot.core.heavy_imports import heavy_imports, own_process
from research.mini.recipe import MiniRecipe


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m research.mini", description="Train mini-base from a recipe."
    )
    parser.add_argument("recipe", type=Path, help="research/mini/mini-base.yaml, or one like it")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")
    options = parser.parse_args()
    own_process()
    try:
        recipe = read_recipe(options.recipe, MiniRecipe)
        with heavy_imports():
            from research.mini.run import train_mini

        note(f"the model is in {train_mini(recipe, note, resume=options.resume)}")
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
