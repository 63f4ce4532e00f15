"""From traces to replies, and from the events of a search to the chunks of a streamed reply."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Trace
from llava_cot.search.answer_warnings import was_cut
from llava_cot.search.search import CandidateChosen, Event, Finished, StageStarted, TextDelta
from llava_cot.server.schemas import (
    ChatChunk,
    ChatReply,
    ChunkChoice,
    ChunkDelta,
    FinishReason,
    ReplyChoice,
    ReplyMessage,
    SearchUpdate,
    UsageReply,
)
from llava_cot.view.describe import final_stage
from llava_cot.view.stage_stream import StageStreamer, StreamPiece


@dataclass(frozen=True)
class ReplyStyle:
    """How one reply is written."""

    model: str  # its name as the client gave it
    raw: bool  # the content is the tagged text, and there is no reasoning
    with_trace: bool
    stop: tuple[str, ...]  # the content ends before the first of these strings
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def content(self, trace: Trace) -> str:
        """The conclusion (raw: all text), up to the first stop string; empty if there is none."""
        return cut_at_stop(trace.text if self.raw else trace.answer or "", self.stop)

    def reasoning(self, trace: Trace) -> str | None:
        """The stages before the conclusion."""
        final = final_stage(trace)
        earlier = [text for name, text in trace.stages.items() if name != final and text]
        return None if self.raw or not earlier else "\n\n".join(earlier)

    def trace_json(self, trace: Trace) -> dict[str, Any] | None:
        """The trace, if the reply has it."""
        return json.loads(trace.model_dump_json()) if self.with_trace else None

    def chunk(
        self, *choices: ChunkChoice, usage: UsageReply | None = None, search: SearchUpdate | None = None
    ) -> ChatChunk:
        """A chunk of the streamed reply."""
        return ChatChunk(
            id=self.id,
            created=self.created,
            model=self.model,
            choices=list(choices),
            usage=usage,
            search=search,
        )


def make_reply(traces: Sequence[Trace], style: ReplyStyle) -> ChatReply:
    """The whole reply, with one choice for each trace."""
    choices = []
    for index, trace in enumerate(traces):
        reasoning = style.reasoning(trace)
        message = ReplyMessage(content=style.content(trace), reasoning_content=reasoning, reasoning=reasoning)
        ended, recorded = finish_reason(trace), style.trace_json(trace)
        choices.append(
            ReplyChoice(
                index=index,
                message=message,
                finish_reason=ended,
                warnings=trace.warnings,
                trace=recorded,
            )
        )
    return ChatReply(
        id=style.id, created=style.created, model=style.model, choices=choices, usage=total_usage(traces)
    )


def finish_reason(trace: Trace) -> FinishReason:
    """ "length" if a part of the answer was cut off, else "stop"."""
    return "length" if was_cut(trace) else "stop"


def total_usage(traces: Sequence[Trace]) -> UsageReply:
    """The tokens of all traces together."""
    prompt = sum(trace.usage.prompt_tokens for trace in traces)
    completion = sum(trace.usage.completion_tokens for trace in traces)
    return UsageReply(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


def cut_at_stop(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop string."""
    return text[: min((text.index(stop) for stop in stops if stop in text), default=len(text))]


class ChunkWriter:
    """Turns the events of one choice's search into chunks; together they equal the reply of `make_reply`.

    Reasoning is sent as it is decided (by `single`, as it is written). The conclusion is sent once the answer
    is complete, because a model that corrects itself writes a second one.
    """

    def __init__(
        self, index: int, fmt: StageFormat, style: ReplyStyle, send: Callable[[ChatChunk], None]
    ) -> None:
        self._index, self._style, self._send = index, style, send
        self._final = fmt.final
        self._streamer = StageStreamer(fmt)
        self._cutter = StopCutter(style.stop)
        self._has_deltas = False
        self._stage: str | None = None
        self._sent_any = False
        self._sent_reasoning = False
        self._new_stage = False

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted():
                self._has_deltas = False
            case TextDelta(text=text):
                self._has_deltas = True
                self._add_text(text)
            case CandidateChosen(candidate=candidate) if not self._has_deltas:
                self._add_text(candidate.text)
            case Finished(trace=trace):
                self._finish(trace)

    def _add_text(self, text: str) -> None:
        if self._style.raw:
            self._send_delta(ChunkDelta(content=self._cutter.feed(text)))
        else:
            self._send_reasoning(self._streamer.feed(text))

    def _send_reasoning(self, pieces: list[StreamPiece]) -> None:
        text = ""
        for piece in pieces:
            if piece.kind == "begin":
                self._stage, self._new_stage = piece.text, True
            elif piece.kind == "end":
                self._stage = None
            elif self._stage not in (None, self._final):
                text += "\n\n" if self._new_stage and self._sent_reasoning else ""
                text += piece.text
                self._sent_reasoning, self._new_stage = True, False
        self._send_delta(ChunkDelta(reasoning_content=text, reasoning=text))

    def _finish(self, trace: Trace) -> None:
        if self._style.raw:
            self._send_delta(ChunkDelta(content=self._cutter.close()))
        else:
            self._send_reasoning(self._streamer.close())
            self._send_delta(ChunkDelta(content=self._style.content(trace)))
        ended, recorded = finish_reason(trace), self._style.trace_json(trace)
        last = ChunkChoice(
            index=self._index,
            delta=ChunkDelta(),
            finish_reason=ended,
            warnings=trace.warnings,
            trace=recorded,
        )
        self._send(self._style.chunk(last))

    def _send_delta(self, delta: ChunkDelta) -> None:
        if not (delta.content or delta.reasoning):
            return
        if not self._sent_any:
            self._sent_any = True
            delta = delta.model_copy(update={"role": "assistant"})
        self._send(self._style.chunk(ChunkChoice(index=self._index, delta=delta)))


class StopCutter:
    """Passes text on up to the first stop string, and holds back text that may still become one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        self._stopped = False

    def feed(self, text: str) -> str:
        """Add text; returns what can be sent by now."""
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
        sent, self._held = self._held[:keep], self._held[keep:]
        return sent

    def close(self) -> str:
        """End the text; returns what was held back."""
        return "" if self._stopped else cut_at_stop(self._held, self._stops)
