"""The command line's `data` verbs: sample, annotate, check, view, duels, preferences.

Owns their options. Everything heavy is imported by the verb that needs it.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

data_app = typer.Typer(help="Make data to train on: sample, annotate, check.", no_args_is_help=True)


@data_app.command()
def sample(
    recipe: Annotated[str, typer.Argument(help="A recipe (YAML): sources and how many of each.")],
    out: Annotated[str, typer.Option(help="The folder to write to; one broken off is gone on with.")],
) -> None:
    """Draw a recipe's questions from data sets."""
    from llava_cot.data.sample import sample as draw
    from llava_cot.show.bars import Bars

    with Bars() as bars:
        report = draw(recipe, out, bars)
    for source in report["sources"]:
        print(f"{source['name']}: {source['drawn']:,} of {source['read']:,}", file=sys.stderr)
    print(f"{out} has {report['drawn']:,} questions", file=sys.stderr)
