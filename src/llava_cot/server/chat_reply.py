"""From traces to replies.

Owns what of an answer is content and what is reasoning. Knows no HTTP.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llava_cot.core.trace import Trace
from llava_cot.server.schemas import ChatReply, FinishReason, ReplyChoice, ReplyMessage, UsageReply
from llava_cot.view.describe import final_stage


@dataclass(frozen=True)
class ReplyStyle:
    """How a reply is written: `raw` is the tagged text as it came, as content; `trace` adds the trace."""

    model: str
    raw: bool
    trace: bool
    stop: tuple[str, ...]
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def content(self, trace: Trace) -> str:
        """The conclusion, or all that was written, up to the first stop string; empty if there is none."""
        return cut(trace.text if self.raw else trace.answer or "", self.stop)

    def reasoning(self, trace: Trace) -> str | None:
        """The stages before the conclusion."""
        final = final_stage(trace)
        earlier = [text for name, text in trace.stages.items() if name != final and text]
        return None if self.raw or not earlier else "\n\n".join(earlier)

    def shown(self, trace: Trace) -> dict[str, Any] | None:
        return json.loads(trace.model_dump_json()) if self.trace else None


def cut(text: str, stops: Sequence[str]) -> str:
    """The text up to the first of the stop strings."""
    return text[: min((text.index(stop) for stop in stops if stop in text), default=len(text))]


def finish(trace: Trace) -> FinishReason:
    """ "length" where the answer was cut off before its conclusion was complete."""
    last = next((c for c in trace.candidates if trace.chosen and c.id == trace.chosen[-1]), None)
    return "length" if last is not None and last.finish == "length" else "stop"


def usage(traces: Sequence[Trace]) -> UsageReply:
    prompt = sum(trace.usage.prompt_tokens for trace in traces)
    completion = sum(trace.usage.completion_tokens for trace in traces)
    return UsageReply(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


def reply(traces: Sequence[Trace], style: ReplyStyle) -> ChatReply:
    """The whole reply: a trace a choice."""
    choices = []
    for index, trace in enumerate(traces):
        reasoning = style.reasoning(trace)
        message = ReplyMessage(content=style.content(trace), reasoning_content=reasoning, reasoning=reasoning)
        choices.append(
            ReplyChoice(index=index, message=message, finish_reason=finish(trace), trace=style.shown(trace))
        )
    return ChatReply(
        id=style.id, created=style.created, model=style.model, choices=choices, usage=usage(traces)
    )
