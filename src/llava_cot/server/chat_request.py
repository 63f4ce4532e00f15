"""From the JSON of a request to a question and its checked choices."""

from __future__ import annotations

import random
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

from pydantic import BaseModel

from llava_cot.core.images import is_data_url, read_image, url_name
from llava_cot.core.question import PLACE
from llava_cot.core.stages import LLAVA_COT, StageFormat
from llava_cot.core.wording import shortened
from llava_cot.data.record import Picture
from llava_cot.errors import RequestError
from llava_cot.models.base import SAMPLING_OPTIONS, Model, Sampling
from llava_cot.search.methods import METHODS
from llava_cot.search.request import (
    DEFAULT_METHOD,
    Request,
    SearchOptions,
    StagingOptions,
    check_model,
    make_request,
    parse_spec,
    possible_judges,
    possible_methods,
    runs_alone,
)
from llava_cot.search.resources import Resources
from llava_cot.server.api_errors import ApiError, request_error, unknown_field
from llava_cot.server.schemas import (
    MAX_BUDGET,
    MAX_CANDIDATES,
    ChatMessage,
    ChatRequest,
    ImagePart,
    MethodCard,
)

MAX_IMAGES = 16
# More than any model here reads; tokenizing longer texts would only delay other requests.
MAX_CHARACTERS = 200_000
_LISTED_NUMBERS = (2, 4, 8)  # of candidates; others are accepted too
_EFFORTS = dict(zip(("low", "medium", "high"), _LISTED_NUMBERS, strict=True))

# OpenAI's fields that would change the answer, with the values that change nothing.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "modalities": (["text"],),
    "audio": (),
    "best_of": (1,),
    "min_tokens": (0,),
    "ignore_eos": (False,),
}
# Fields that others send and that change no answer: who asks, bookkeeping, caches, the form of a stream.
_HARMLESS = frozenset({
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "parallel_tool_calls", "prediction", "priority", "request_id", "cache_prompt",
    "cache_control", "include_obfuscation", "name",
})  # fmt: skip


@dataclass(frozen=True)
class ChatQuestion:
    """A checked request, except for its images, which are not loaded yet."""

    text: str
    pictures: tuple[UrlPicture, ...]
    request: Request
    choices: int = 1  # answers, each with a seed of its own
    stop: tuple[str, ...] = ()  # strings that end the conclusion


@dataclass(frozen=True)
class UrlPicture(Picture):
    """A picture of a request, given as a data URL or an http(s) URL of a public host."""

    _: KW_ONLY
    url: str

    def read(self) -> bytes:
        """The bytes of the picture's file. Raises ImageError."""
        return read_image(self.url, name=self.name)


def read_request(
    body: ChatRequest,
    model: Model,
    fmt: StageFormat,
    allow_urls: bool,
    resources: Resources,
    staging: StagingOptions | None = None,
) -> ChatQuestion:
    """Check a request to the server of a model. Raises ApiError if it cannot be answered."""
    _check_fields(body)
    text, urls = _read_messages(body.messages)
    for url in urls:
        _check_url(url, allow_urls)
    search = _with_effort(body, model.name)
    request = read_choices(body.model, model, resources, search, _sampling(body), fmt, staging)
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    pictures = tuple(
        UrlPicture(f"number {number}" if is_data_url(url) else url_name(url), url=url)
        for number, url in enumerate(urls, 1)
    )
    return ChatQuestion(text, pictures, request, body.n or 1, stop)


def _with_effort(body: ChatRequest, model: str) -> SearchOptions | None:
    """The request's `search`, with the n of its `reasoning_effort` if it names none."""
    search = body.search or SearchOptions()
    named = body.model != model or search.n is not None
    method = METHODS.get(search.method or DEFAULT_METHOD)
    if body.reasoning_effort is None or named or method is None or method.single:
        return body.search
    return search.model_copy(update={"n": _EFFORTS[body.reasoning_effort]})


def read_choices(
    name: str,
    model: Model,
    resources: Resources,
    search: SearchOptions | None = None,
    sampling: Sampling | None = None,
    fmt: StageFormat = LLAVA_COT,
    staging: StagingOptions | None = None,
) -> Request:
    """Check the method and its choices, from the name in a request and its `search` field.

    Args:
        name: The model, or the model and a spec, such as mini:best-of-8@logits.
        model: The server's model.

    Raises:
        ApiError: There is no such model, it contradicts `search`, or the choices cannot work here.
    """
    named, greedy = _read_name(name, model.name)
    search = search or SearchOptions()
    if named.method is not None and (search.method, search.n) != (None, None):
        raise ApiError(
            400,
            f"the model {name} names a method and so does search; use {model.name} as the model, "
            "or drop method and n from search",
            param="search",
        )
    for field in ("judge", "budget", "stages"):
        if getattr(named, field) is not None and getattr(search, field) is not None:
            raise ApiError(
                400, f"the model {name} names a {field} and so does search; drop one of them", param="search"
            )
    merged = search.model_dump() | {
        field: value for field, value in named.model_dump().items() if value is not None
    }
    longest = (sampling or Sampling()).max_tokens
    for field, value in (staging or StagingOptions()).model_dump().items():
        if merged[field] is None:  # the server's bounds give way to a request's own limit
            merged[field] = min(value, longest) if isinstance(value, int) else value
    if greedy:
        sampling = replace(sampling or Sampling(), temperature=0.0)
    resources = resources.fitting(
        DEFAULT_METHOD if merged["method"] is None else merged["method"], merged["judge"]
    )
    try:
        request = make_request(**merged, sampling=sampling, fmt=fmt, resources=resources)
        check_model(request.method, request.judge_name, model, resources)
        return request
    except RequestError as error:
        # A judge that was not chosen is the method's own.
        field = "method" if error.field == "judge" and merged["judge"] is None else error.field
        if getattr(named, field, None) is None:
            raise request_error(error, f"search.{field}") from None
        if error.needs is None:
            raise _unknown_model(name, model.name, error) from None
        raise request_error(error, "model") from None


def model_names(model: Model, resources: Resources) -> list[str]:
    """The names that the server lists: the model, and each method that can run with its own judge."""
    known = {name: method for name, method in METHODS.items() if runs_alone(name, resources, model)}
    single = [name for name, method in known.items() if method.single]
    several = [method.short for method in known.values() if not method.single]
    return [
        model.name,
        *(f"{model.name}:{name}" for name in single),
        *(f"{model.name}:{name}-{n}" for name in several for n in _LISTED_NUMBERS),
    ]


def method_cards(model: Model, resources: Resources) -> list[MethodCard]:
    """The methods that can run on this model with these resources, with what each takes."""
    return [
        MethodCard(
            id=name,
            n=METHODS[name].n,
            single=METHODS[name].single,
            budgeted=METHODS[name].budgeted,
            judges=possible_judges(name, resources, model),
        )
        for name in possible_methods(resources, model)
    ]


def _read_name(name: str, model: str) -> tuple[SearchOptions, bool]:
    """The choices in a model's name, and whether it is greedy. Raises ApiError."""
    if name == model:
        return SearchOptions(), False
    served, colon, spec_text = name.rpartition(":")
    if not colon or served != model:
        raise _unknown_model(name, model)
    try:
        spec = parse_spec(spec_text)
    except RequestError as error:
        raise _unknown_model(name, model, error) from None
    for what, value, most in (
        ("candidates", spec.n, MAX_CANDIDATES),
        ("tokens of budget", spec.budget or 0, MAX_BUDGET),
    ):
        if value > most:
            raise ApiError(400, f"the model's name has {value} {what}; give at most {most}", param="model")
    judge = spec.judge if "@" in spec_text else None  # else `search` may name one
    options = SearchOptions(method=spec.method, n=spec.n, judge=judge, budget=spec.budget, stages=spec.stages)
    return options, spec.temperature == 0


def _unknown_model(name: str, model: str, reason: RequestError | None = None) -> ApiError:
    why = "" if reason is None else f" ({reason})"
    return ApiError(
        404,
        f"there is no model {shortened(name, 80)!r} here{why}; /v1/models lists names, such as "
        f"{model}:stage-beam-4",
        param="model",
        code="model_not_found",
    )


def _sampling(body: ChatRequest) -> Sampling:
    given = {name: getattr(body, name) for name in SAMPLING_OPTIONS}
    given["max_tokens"] = body.max_completion_tokens or body.max_tokens
    if body.seed is None:
        given["seed"] = random.getrandbits(31)
    if body.top_p == 0:  # only the likeliest token
        given |= {"temperature": 0.0, "top_p": 1.0}
    return Sampling(**{name: value for name, value in given.items() if value is not None})


def _check_fields(body: ChatRequest) -> None:
    """Raise ApiError for a field that is neither used nor known to change nothing."""
    _check_extra(body, "")
    if body.stream_options is not None:
        _check_extra(body.stream_options, "stream_options.")
    for number, message in enumerate(body.messages):
        _check_extra(message, f"messages.{number}.")
        for place, part in enumerate(message.content if isinstance(message.content, list) else ()):
            _check_extra(part, f"messages.{number}.content.{place}.")
            if isinstance(part, ImagePart) and not isinstance(part.image_url, str):
                _check_extra(part.image_url, f"messages.{number}.content.{place}.image_url.")


def _check_extra(given: BaseModel, path: str) -> None:
    for name, value in (given.model_extra or {}).items():
        if value is None or name in _HARMLESS:
            continue
        if name not in _UNSUPPORTED:
            raise unknown_field(name, path, type(given).model_fields)
        if value not in _UNSUPPORTED[name]:
            raise ApiError(400, f"{name} is not supported by this server; drop it", param=name)


def _read_messages(messages: list[ChatMessage]) -> tuple[str, tuple[str, ...]]:
    """The text, instructions first, and the pictures' URLs.

    Pictures stay where they are among the texts. Those that begin the user's message come before all.
    """
    users = [message for message in messages if message.role == "user"]
    if len(users) != 1 or messages[-1].role != "user" or any(m.role == "assistant" for m in messages):
        raise _unusable(
            "the server answers single questions: send one user message, the last, "
            "after any instructions, and no earlier turns"
        )
    urls: list[str] = []
    texts: list[str] = []
    for message in messages:
        texts.append("")
        for part in [message.content] if isinstance(message.content, str) else message.content:
            if isinstance(part, ImagePart):
                urls.append(part.image_url if isinstance(part.image_url, str) else part.image_url.url)
                texts[-1] += PLACE
                continue
            words = part if isinstance(part, str) else part.text
            if PLACE in words:
                raise _unusable("the question has U+FDD1 in it, which is no character; remove it")
            if words.strip():
                texts[-1] += words if texts[-1][-1:] in ("", PLACE) else f"\n{words}"
    if texts[-1].startswith(PLACE * len(urls)):
        texts[-1] = texts[-1].removeprefix(PLACE * len(urls))
    text = "\n".join(filter(None, texts))
    _check_text(text.replace(PLACE, ""))
    if len(urls) > MAX_IMAGES:
        raise _unusable(f"the question has {len(urls)} pictures; send at most {MAX_IMAGES}")
    return text, tuple(urls)


def _check_text(text: str) -> None:
    if not text.strip():
        raise _unusable("the question is empty; write what you want to know")
    if len(text) > MAX_CHARACTERS:
        raise _unusable(f"the question has {len(text)} characters; send at most {MAX_CHARACTERS}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _unusable(
            "the question has half of a surrogate pair (such as \\ud800), which is no character; remove it"
        ) from None


def _check_url(url: str, allow_urls: bool) -> None:
    if is_data_url(url):
        return
    if not url[:8].lower().startswith(("http://", "https://")):
        raise _unusable("a picture's url is not a URL; send a data URL: data:image/png;base64,...")
    if not allow_urls:
        raise _unusable(
            "this server loads no pictures from the web; send a data URL: data:image/png;base64,..."
        )


def _unusable(message: str) -> ApiError:
    return ApiError(400, message, param="messages")
