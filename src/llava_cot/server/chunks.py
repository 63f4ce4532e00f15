"""From the events of a search to the pieces of a streamed reply.

Owns what is sent when: reasoning as it is decided (of `single`, as it is written), the conclusion once
the answer is complete, since a model that corrects itself writes a second one. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable

from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Trace
from llava_cot.search.search import CandidateKept, Event, Finished, StageStarted, TextDelta
from llava_cot.server.chat_reply import ReplyStyle, cut, finish
from llava_cot.server.schemas import ChatChunk, ChunkChoice, ChunkDelta, UsageReply
from llava_cot.view.stage_stream import StageStreamer, StreamPiece


class ChunkWriter:
    """Turns the events of one choice into chunks. All that it sends makes up what `reply` would."""

    def __init__(
        self, index: int, fmt: StageFormat, style: ReplyStyle, send: Callable[[ChatChunk], None]
    ) -> None:
        self._index, self._style, self._send = index, style, send
        self._final = fmt.final
        self._streamer = StageStreamer(fmt)
        self._cutter = StopCutter(style.stop)
        self._deltas = False
        self._stage: str | None = None
        self._begun = False  # whether a chunk was sent
        self._reasoned = False
        self._new_stage = False

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted():
                self._deltas = False
            case TextDelta(text=text):
                self._deltas = True
                self._text(text)
            case CandidateKept(candidate=candidate) if not self._deltas:
                self._text(candidate.text)
            case Finished(trace=trace):
                self._end(trace)

    def _text(self, text: str) -> None:
        if self._style.raw:
            self._tell(ChunkDelta(content=self._cutter.feed(text)))
        else:
            self._reason(self._streamer.feed(text))

    def _reason(self, pieces: list[StreamPiece]) -> None:
        text = ""
        for piece in pieces:
            if piece.kind == "begin":
                self._stage, self._new_stage = piece.text, True
            elif piece.kind == "end":
                self._stage = None
            elif self._stage not in (None, self._final):
                text += "\n\n" if self._new_stage and self._reasoned else ""
                text += piece.text
                self._reasoned, self._new_stage = True, False
        self._tell(ChunkDelta(reasoning_content=text, reasoning=text))

    def _end(self, trace: Trace) -> None:
        if self._style.raw:
            self._tell(ChunkDelta(content=self._cutter.close()))
        else:
            self._reason(self._streamer.close())
            self._tell(ChunkDelta(content=self._style.content(trace)))
        choice = ChunkChoice(
            index=self._index, delta=ChunkDelta(), finish_reason=finish(trace), trace=self._style.shown(trace)
        )
        self._send(chunk(self._style, choice))

    def _tell(self, delta: ChunkDelta) -> None:
        if not (delta.content or delta.reasoning):
            return
        if not self._begun:
            self._begun = True
            delta = delta.model_copy(update={"role": "assistant"})
        self._send(chunk(self._style, ChunkChoice(index=self._index, delta=delta)))


class StopCutter:
    """Passes text on up to the first stop string, holding back what may still become one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        self._stopped = False

    def feed(self, text: str) -> str:
        if self._stopped:
            return ""
        self._held += text
        keep = len(self._held)
        for at in range(len(self._held)):
            rest = self._held[at : at + self._longest]
            if any(rest.startswith(stop) for stop in self._stops):
                self._stopped, keep = True, at
                break
            if any(stop.startswith(rest) for stop in self._stops):
                keep = at
                break
        shown, self._held = self._held[:keep], self._held[keep:]
        return shown

    def close(self) -> str:
        """What was held back, once no more text comes."""
        return "" if self._stopped else cut(self._held, self._stops)


def chunk(style: ReplyStyle, *choices: ChunkChoice, usage: UsageReply | None = None) -> ChatChunk:
    return ChatChunk(
        id=style.id, created=style.created, model=style.model, choices=list(choices), usage=usage
    )
