"""The consoles of the command line: nothing that a file, a model or a server wrote steers the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from llava_cot.core.wording import printable


class CleanConsole(Console):
    """A rich console that prints its own control codes and styles, and no control characters of any text.

    Args:
        error: Print on standard error.
        quiet: Print nothing.
        file: Where to print, if not on standard output or standard error.
    """

    def __init__(self, *, error: bool = False, quiet: bool = False, file: IO[str] | None = None) -> None:
        super().__init__(stderr=error, quiet=quiet, file=file, highlight=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
