"""Splitting text into stages while it is still being written.

Owns the state between two pieces of text. Knows no terminal; the final word on what an answer says
is `stages.parse`, which sees it whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from llava_cot.core.stages import Stage, StageFormat


@dataclass(frozen=True)
class Piece:
    """Something to show: a stage begins (its name), some text, or the stage ends (its name)."""

    kind: Literal["begin", "text", "end"]
    text: str


class StageStreamer:
    """Turns pieces of a staged answer into pieces to show, with names in place of tags.

    A tag may come in several pieces and in any case. Text that may still turn out to be a tag, and
    white space that may stand before one, is held back until it is known. A stage that is left open
    ends where another one begins.
    """

    def __init__(self, fmt: StageFormat) -> None:
        self._fmt = fmt
        self._stage: Stage | None = None
        self._held = ""
        self._blank = True

    def feed(self, text: str) -> list[Piece]:
        """What can be shown now that `text` has been added."""
        pieces: list[Piece] = []
        self._held += text
        while (tag := self._next_tag()) is not None:
            self._show(self._held[: tag.start()].rstrip(), pieces)
            self._held = self._held[tag.end() :]
            opened = self._turns()[(tag.lastindex or 1) - 1][1]
            self._end(pieces)
            if opened is not None:
                self._stage = opened
                pieces.append(Piece("begin", opened.name))
        keep = self._undecided()
        self._show(self._held[:keep], pieces)
        self._held = self._held[keep:]
        return pieces

    def close(self) -> list[Piece]:
        """What is left to show once no more text comes."""
        pieces: list[Piece] = []
        self._show(self._held.rstrip(), pieces)
        self._held = ""
        self._end(pieces)
        return pieces

    def _turns(self) -> list[tuple[str, Stage | None]]:
        """The tags that mean something here, each with the stage that it opens, if any."""
        turns: list[tuple[str, Stage | None]]
        turns = [(stage.open, stage) for stage in self._fmt.stages if stage is not self._stage]
        if self._stage is not None:
            turns.append((self._stage.close, None))
        return turns

    def _next_tag(self) -> re.Match[str] | None:
        pattern = "|".join(f"({re.escape(tag)})" for tag, _ in self._turns())
        return re.search(pattern, self._held, re.IGNORECASE)

    def _end(self, pieces: list[Piece]) -> None:
        if self._stage is not None:
            pieces.append(Piece("end", self._stage.name))
        self._stage = None
        self._blank = True

    def _show(self, text: str, pieces: list[Piece]) -> None:
        text = text.lstrip() if self._blank else text
        if text:
            pieces.append(Piece("text", text))
            self._blank = False

    def _undecided(self) -> int:
        """Where the end of the held text begins that may still become a tag."""
        tags = [tag.lower() for tag, _ in self._turns()]
        start = len(self._held)
        for length in range(min(start, max(map(len, tags)) - 1), 0, -1):
            if any(tag.startswith(self._held[-length:].lower()) for tag in tags):
                start -= length
                break
        return len(self._held[:start].rstrip())
