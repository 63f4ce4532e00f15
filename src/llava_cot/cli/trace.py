"""The verb `trace`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from llava_cot.cli.options import new_app

app = new_app()


@app.command()
def trace(
    file: Annotated[str, typer.Argument(help="A trace, as `ask --trace FILE` saves it.")],
    html: Annotated[str | None, typer.Option(metavar="OUT", help="Write one self-contained page.")] = None,
) -> None:
    """Show a saved trace, as a tree in the terminal or as a page."""
    from llava_cot.core.trace import Trace

    loaded = Trace.load(file)
    if html is None:
        from llava_cot.view.console import CleanConsole
        from llava_cot.view.terminal import trace_tree

        CleanConsole().print(trace_tree(loaded))
        return
    from llava_cot.core.files import write_whole
    from llava_cot.view.html import trace_page

    write_whole(html, trace_page(loaded))
    print(f"wrote {html}", file=sys.stderr)
