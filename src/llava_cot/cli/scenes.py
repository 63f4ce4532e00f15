"""The verb `scenes`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from llava_cot.cli.options import new_app

app = new_app()


@app.command()
def scenes(
    out: Annotated[str, typer.Argument(help="The folder to write to.")],
    count: Annotated[int, typer.Option(help="The number of scenes.")] = 100,
    seed: Annotated[int, typer.Option(help="The same seed gives the same scenes.")] = 0,
    split: Annotated[
        str, typer.Option(help="train, validation or test; no scene is in two of them.")
    ] = "test",
    difficulty: Annotated[
        str, typer.Option(help="standard, or hard: up to 12 objects, and reasoning of 1 to 8 steps.")
    ] = "standard",
) -> None:
    """Write images of made-up scenes with questions, answers and annotations."""
    from llava_cot.scenes.items import write_scenes

    questions = write_scenes(out, count=count, seed=seed, split=split, difficulty=difficulty)
    print(f"wrote {questions}", file=sys.stderr)
