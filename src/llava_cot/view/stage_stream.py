"""Splitting an answer into its stages while it is being written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from llava_cot.core.stages import Stage, StageFormat


@dataclass(frozen=True)
class StreamPiece:
    """The next thing to show: a stage begins (its name), some text, or the stage ends (its name)."""

    kind: Literal["begin", "text", "end"]
    text: str


class StageStreamer:
    """Turns chunks of a staged answer into pieces to show, with stage names in place of tags.

    A tag may be cut anywhere and written in any case. Text that may still become a tag is held back, as is
    white space that may stand before one. An open stage ends where another one begins. For the finished
    answer, `core.stages.parse` is authoritative.
    """

    def __init__(self, fmt: StageFormat) -> None:
        self._fmt = fmt
        self._stage: Stage | None = None
        self._held = ""
        self._blank = True

    def feed(self, text: str) -> list[StreamPiece]:
        """Add text; returns what can be shown by now."""
        pieces: list[StreamPiece] = []
        self._held += text
        while (tag := self._next_tag()) is not None:
            self._show(self._held[: tag.start()].rstrip(), pieces)
            self._held = self._held[tag.end() :]
            opened = self._tags()[(tag.lastindex or 1) - 1][1]
            self._end(pieces)
            if opened is not None:
                self._stage = opened
                pieces.append(StreamPiece("begin", opened.name))
        safe = self._safe_length()
        self._show(self._held[:safe], pieces)
        self._held = self._held[safe:]
        return pieces

    def close(self) -> list[StreamPiece]:
        """End the answer; returns what was held back."""
        pieces: list[StreamPiece] = []
        self._show(self._held.rstrip(), pieces)
        self._held = ""
        self._end(pieces)
        return pieces

    def _tags(self) -> list[tuple[str, Stage | None]]:
        """The tags that may come next, each with the stage that it opens, if any."""
        tags: list[tuple[str, Stage | None]]
        tags = [(stage.open, stage) for stage in self._fmt.stages if stage is not self._stage]
        if self._stage is not None:
            tags.append((self._stage.close, None))
        return tags

    def _next_tag(self) -> re.Match[str] | None:
        pattern = "|".join(f"({re.escape(tag)})" for tag, _ in self._tags())
        return re.search(pattern, self._held, re.IGNORECASE)

    def _end(self, pieces: list[StreamPiece]) -> None:
        if self._stage is not None:
            pieces.append(StreamPiece("end", self._stage.name))
        self._stage = None
        self._blank = True

    def _show(self, text: str, pieces: list[StreamPiece]) -> None:
        text = text.lstrip() if self._blank else text
        if text:
            pieces.append(StreamPiece("text", text))
            self._blank = False

    def _safe_length(self) -> int:
        """How much of the held text cannot become part of a tag any more."""
        tags = [tag.lower() for tag, _ in self._tags()]
        start = len(self._held)
        for length in range(min(start, max(map(len, tags)) - 1), 0, -1):
            if any(tag.startswith(self._held[-length:].lower()) for tag in tags):
                start -= length
                break
        return len(self._held[:start].rstrip())
