"""What crosses the wire: OpenAI's chat completions as far as they are understood here, and what is added.

Owns the shapes and the bounds that are told in the OpenAPI description. Knows no model and no method.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# More choices, or candidates of a search, than a batch has rows (256) only wait for one another.
MAX_CHOICES = 16
MAX_CANDIDATES = 256
# As many as 256 candidates of 2048 tokens, and their judging; all more only waits for the time limit.
MAX_BUDGET = 1_000_000
MAX_STOPS = 4  # OpenAI's


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class ImageUrl(_Part):
    """`url` is a data URL, or an http(s) URL where the server allows it."""

    url: str


class TextPart(_Part):
    type: Literal["text"]
    text: str


class ImagePart(_Part):
    type: Literal["image_url"]
    image_url: ImageUrl


ContentPart = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class ChatMessage(_Part):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[ContentPart]


class SearchFields(BaseModel):
    """How the answer is searched for, in place of a method in the model's name; as `llava-cot ask` has it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    method: str | None = None
    n: int | None = Field(None, ge=1, le=MAX_CANDIDATES)
    judge: str | None = None
    budget: int | None = Field(None, ge=1, le=MAX_BUDGET)


class StreamOptions(_Part):
    include_usage: bool | None = None


class ChatRequest(BaseModel):
    """A question. Fields that are not listed have no effect, save those that are refused by name."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=64)
    n: int | None = Field(None, ge=1, le=MAX_CHOICES)
    stop: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=MAX_STOPS)]
        | None
    ) = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, allow_inf_nan=False)
    top_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    search: SearchFields | None = None
    include_trace: bool | None = None
    raw: bool | None = None


class UsageReply(BaseModel):
    """What all candidates and duels of all choices cost, kept or not."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ReplyMessage(BaseModel):
    """`content` is the conclusion; `reasoning_content` and `reasoning`, which are the same, led to it."""

    role: Literal["assistant"] = "assistant"
    content: str
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: None = None


FinishReason = Literal["stop", "length"]


class ReplyChoice(BaseModel):
    index: int
    message: ReplyMessage
    finish_reason: FinishReason
    logprobs: None = None
    trace: dict[str, Any] | None = None


class ChatReply(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ReplyChoice]
    usage: UsageReply


class ChunkDelta(BaseModel):
    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class ChunkChoice(BaseModel):
    index: int
    delta: ChunkDelta
    finish_reason: FinishReason | None = None
    trace: dict[str, Any] | None = None


class ChatChunk(BaseModel):
    """One event of a stream."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: UsageReply | None = None


class ModelCard(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["llava-cot"] = "llava-cot"


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class Health(BaseModel):
    status: Literal["ok"] = "ok"
