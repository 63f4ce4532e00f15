"""The verbs of `models`."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Annotated

import typer

from llava_cot.cli.options import ModelName, new_app

app = new_app("Look at models behind servers.")


@app.callback()
def models() -> None:
    """Look at models behind servers."""


@app.command()
def check(
    server: Annotated[str, typer.Argument(help="An address, or a name in endpoints.yaml.")],
    model_name: ModelName = None,
) -> None:
    """Detect again what a server supports, and save it for later runs."""
    from llava_cot.models.endpoint.capabilities import capabilities_folder
    from llava_cot.models.registry import open_endpoint

    with closing(open_endpoint(server, model_name, fresh=True)) as opened:
        print(opened.describe())
    print(f"saved in {capabilities_folder()}", file=sys.stderr)
