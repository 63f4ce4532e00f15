"""The JSON of requests and replies: OpenAI's chat completions where they apply, and our additions."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Optional

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, create_model
from pydantic.fields import FieldInfo

from llava_cot.core.trace import AnswerWarning
from llava_cot.models.base import SAMPLING_OPTIONS, Sampling
from llava_cot.search.request import SearchOptions

# More choices, or more candidates than a batch has rows (256), would only wait for one another.
MAX_CHOICES = 16
MAX_CANDIDATES = 256
# 256 candidates of 2,048 tokens with their judging; anything more runs into the time limit.
MAX_BUDGET = 1_000_000
MAX_STOPS = 4  # OpenAI's


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)  # `chat_request` refuses unknown fields


class ImageUrl(_Part):
    url: str = Field(description="A data URL, or an http(s) URL if the server allows these.")
    detail: str | None = Field(default=None, description="Accepted; pictures are always used whole.")


class TextPart(_Part):
    type: Literal["text"]
    text: str


class ImagePart(_Part):
    type: Literal["image_url"]
    image_url: ImageUrl | str = Field(description="The URL in an object, or by itself.")


ContentPart = Annotated[TextPart | ImagePart, Field(discriminator="type")]


def _content_kind(content: object) -> str:
    return "text" if isinstance(content, str) else "parts"


class ChatMessage(_Part):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Annotated[str, Tag("text")] | Annotated[list[ContentPart], Tag("parts")], Discriminator(_content_kind)
    ]


class SearchFields(SearchOptions):
    """How to search, instead of a method in the model's name; the options are those of `llava-cot ask`."""

    n: int | None = Field(
        default=None, ge=1, le=MAX_CANDIDATES, description=SearchOptions.model_fields["n"].description
    )
    budget: int | None = Field(
        default=None, ge=1, le=MAX_BUDGET, description=SearchOptions.model_fields["budget"].description
    )


class StreamOptions(_Part):
    include_usage: bool | None = Field(default=None, description="Send the usage as the last chunk.")
    include_search: bool | None = Field(
        default=None, description="Send each choice's search as HTML, again and again while it grows."
    )


_SAMPLING: dict[str, FieldInfo] = Sampling.__pydantic_fields__  # type: ignore[attr-defined]


def _optional(field: FieldInfo) -> tuple[Any, None]:
    """The type and the default of a field that may be left out, with its description and bounds."""
    constraints = (Field(description=field.description), *field.metadata)
    return Annotated[(Optional[field.annotation], *constraints)], None  # noqa: UP045


# The user's sampling options; an option that is added to `Sampling` appears here too.
_SamplingFields: Any = create_model(  # type: ignore[call-overload]
    "_SamplingFields", **{name: _optional(_SAMPLING[name]) for name in SAMPLING_OPTIONS}
)


class ChatRequest(_SamplingFields):  # type: ignore[misc]
    """One question. Unknown fields are refused, except those of OpenAI's that change no answer."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    model: str = Field(description="The model, or the model and a method, such as mini:stage-beam-4.")
    messages: list[ChatMessage] = Field(
        min_length=1, max_length=64, description="One user message, after any system or developer messages."
    )
    n: int | None = Field(
        default=None, ge=1, le=MAX_CHOICES, description="The number of independent answers."
    )
    stop: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=MAX_STOPS)]
        | None
    ) = Field(default=None, description="The content ends before the first of these strings.")
    # OpenAI and evaluation harnesses send a top_p of 0 for greedy sampling.
    top_p: float | None = Field(
        default=None, ge=0, le=1, description=f"{_SAMPLING['top_p'].description} 0 is greedy."
    )
    seed: int | None = Field(
        default=None, ge=-(2**63), lt=2**63, description="Seed of the random numbers; random if not given."
    )
    max_completion_tokens: int | None = Field(
        default=None, ge=1, description="Another name for max_tokens, which it overrides."
    )
    stream: bool | None = Field(default=None, description="Send the answer as server-sent events.")
    stream_options: StreamOptions | None = None
    reasoning_effort: Literal["low", "medium", "high"] | None = Field(
        default=None,
        description="2, 4 or 8 candidates, where neither the model's name has a method nor `search` an n.",
    )
    search: SearchFields | None = None
    include_trace: bool | None = Field(default=None, description="Add its trace to each choice.")
    raw: bool | None = Field(
        default=None, description="Put the tagged text into the content, and leave the reasoning out."
    )


class UsageReply(BaseModel):
    """The tokens of all candidates and duels of all choices, kept or not."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ReplyMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str = Field(description="The conclusion.")
    reasoning_content: str | None = Field(default=None, description="The stages before the conclusion.")
    reasoning: str | None = Field(default=None, description="The same as reasoning_content.")
    refusal: None = None


FinishReason = Literal["stop", "length"]
Warnings = Annotated[
    tuple[AnswerWarning, ...],
    Field(
        description="What the search could not do, or the model does not know; absent if there is nothing.",
        exclude_if=lambda found: not found,
    ),
]


class ReplyChoice(BaseModel):
    index: int
    message: ReplyMessage
    finish_reason: FinishReason
    logprobs: None = None
    warnings: Warnings = ()
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
    warnings: Warnings = ()
    trace: dict[str, Any] | None = None


class SearchUpdate(BaseModel):
    """The search of one choice as it is now."""

    index: int
    html: str = Field(description="The search as one article element; all text in it is escaped.")
    stage: str | None = Field(default=None, description="What is searched; absent once it is complete.")
    trace: str | None = Field(default=None, description="The id of the trace, once it is complete.")


class ChatChunk(BaseModel):
    """One event of a stream."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: UsageReply | None = None
    search: SearchUpdate | None = None


class ModelCard(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["llava-cot"] = "llava-cot"


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class MethodCard(BaseModel):
    """A method that this server can run."""

    id: str
    object: Literal["method"] = "method"
    n: int = Field(description="The number of candidates if none is given.")
    single: bool = Field(description="It takes one sample, so that n is 1.")
    budgeted: bool = Field(description="It can keep to a budget of tokens.")
    judges: list[str] = Field(description="The judges that it can use, its own first.")


class MethodList(BaseModel):
    object: Literal["list"] = "list"
    model: str
    default: str = Field(description="The method of a request that names none.")
    data: list[MethodCard]
    ignored: list[str] = Field(description="Options of sampling that have no effect on this model.")


class Health(BaseModel):
    status: Literal["ok"] = "ok"
