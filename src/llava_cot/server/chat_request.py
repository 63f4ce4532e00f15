"""From a request to what `ask` takes: the question with its pictures, and the settings.

Owns what is refused, before any work is spent where that can be told. Opens no file: a picture is in a data
URL or, where the server allows it, at a public http(s) address.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava_cot.core.images import ImageLimits, LoadedImage, load_image
from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat
from llava_cot.models.base import Sampling
from llava_cot.search.methods import METHODS
from llava_cot.search.request import Request, make_request
from llava_cot.search.resources import Resources
from llava_cot.server.api_errors import ApiError
from llava_cot.server.names import read_name
from llava_cot.server.schemas import ChatMessage, ChatRequest, ImagePart, TextPart

MAX_IMAGES = 16
# No model here reads as much; to cut more into tokens would only hold up the others.
MAX_CHARACTERS = 200_000

# Fields that would change the answer, with the values that change nothing.
_REFUSED: dict[str, tuple[Any, ...]] = {
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
}


@dataclass(frozen=True)
class ChatQuestion:
    """A checked request, except for its images, which are not loaded yet.

    Attributes:
        text: The question.
        pictures: Data URLs, addresses, or files that were uploaded.
        request: The method and its choices.
        choices: The number of answers; each has a seed of its own.
        stop: Strings that end the conclusion.
    """

    text: str
    pictures: tuple[str | Path, ...]
    request: Request
    choices: int = 1
    stop: tuple[str, ...] = ()

    async def question(self) -> Question:
        """The question with its pictures. Raises ImageError.

        All of them together have no more pixels than one may have, since they are kept unpacked.
        """
        images: list[LoadedImage] = []
        pixels = ImageLimits().max_pixels
        for number, picture in enumerate(self.pictures, 1):
            limits = ImageLimits(max_pixels=pixels)
            name = f"number {number}" if isinstance(picture, Path) or _is_data(picture) else None
            image = await asyncio.to_thread(load_image, picture, limits=limits, name=name)
            pixels -= image.pil.width * image.pil.height
            images.append(image)
        return Question(self.text, tuple(images))


def read_request(
    body: ChatRequest, model: str, fmt: StageFormat, allow_urls: bool, resources: Resources
) -> ChatQuestion:
    """Check a request to a server of `model` that has these resources. Raises ApiError or ValueError."""
    _refuse_fields(body)
    text, urls = _read_messages(body.messages)
    for url in urls:
        _check_url(url, allow_urls)
    named, search = read_name(body.model, model), body.search
    if named.method and search and (search.method or search.n):
        raise ApiError(
            400,
            f"the model {body.model} names a method and so does search; name {model} as the model, "
            "or leave the method and n out of search",
            param="search",
        )
    method = named.method or (search and search.method) or "stage-beam"
    n = named.n or (search.n if search else None)
    for what in ("judge", "budget"):
        if getattr(named, what) and search and getattr(search, what):
            raise ApiError(
                400,
                f"the model {body.model} names a {what} and so does search; leave one of them out",
                param="search",
            )
    judge = named.judge or (search.judge if search else None)
    budget = named.budget or (search.budget if search else None)
    default = Sampling()
    temperature = default.temperature if body.temperature is None else body.temperature
    top_p = default.top_p if body.top_p is None else body.top_p
    if named.temperature is not None:  # greedy is greedy, whatever a harness sends with it
        temperature = named.temperature
    if top_p == 0:  # OpenAI takes it, and harnesses send it: only the likeliest token, as at temperature 0
        temperature, top_p = 0.0, 1.0
    sampling = Sampling(
        temperature=temperature,
        top_p=top_p,
        max_tokens=body.max_completion_tokens or body.max_tokens or default.max_tokens,
        seed=random.getrandbits(31) if body.seed is None else body.seed,
    )
    request = make_request(
        method, n=n, judge=judge, sampling=sampling, budget=budget, fmt=fmt,
        resources=resources.fitting(method, judge) if method in METHODS else resources,
    )  # fmt: skip
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    return ChatQuestion(text, urls, request, body.n or 1, stop)


def _refuse_fields(body: ChatRequest) -> None:
    given = body.model_extra or {}
    for name, harmless in _REFUSED.items():
        if given.get(name) is not None and given[name] not in harmless:
            raise ApiError(400, f"{name} is not supported by this server; leave it out", param=name)


def _read_messages(messages: list[ChatMessage]) -> tuple[str, tuple[str, ...]]:
    """The text, instructions first, and the pictures' URLs."""
    users = [message for message in messages if message.role == "user"]
    if len(users) != 1 or messages[-1].role != "user" or any(m.role == "assistant" for m in messages):
        raise ApiError(
            400,
            "each question is answered by itself: send one user message, the last, "
            "with instructions before it if there are any, and no earlier turns",
            param="messages",
        )
    parts: list[TextPart | ImagePart] = []
    for message in messages:
        content = message.content
        parts += [TextPart(type="text", text=content)] if isinstance(content, str) else content
    texts = [part.text for part in parts if isinstance(part, TextPart) and part.text.strip()]
    urls = tuple(part.image_url.url for part in parts if isinstance(part, ImagePart))
    text = "\n".join(texts)
    check_text(text)
    if len(urls) > MAX_IMAGES:
        raise ApiError(
            400, f"the question has {len(urls)} pictures; send at most {MAX_IMAGES}", param="messages"
        )
    return text, urls


def check_text(text: str) -> None:
    """Raises ApiError."""
    if not text.strip():
        raise ApiError(400, "the question is empty; write what you want to know", param="messages")
    if len(text) > MAX_CHARACTERS:
        raise ApiError(
            400,
            f"the question has {len(text)} characters; send at most {MAX_CHARACTERS}",
            param="messages",
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ApiError(
            400,
            "the question holds half of a surrogate pair (such as \\ud800), no character; take it out",
            param="messages",
        ) from None


def _check_url(url: str, allow_urls: bool) -> None:
    if _is_data(url):
        return
    if not url[:8].lower().startswith(("http://", "https://")):
        raise ApiError(
            400, "a picture's url is none; send a data URL: data:image/png;base64,...", param="messages"
        )
    if not allow_urls:
        raise ApiError(
            400,
            "this server loads no pictures from the web; send a data URL: data:image/png;base64,...",
            param="messages",
        )


def _is_data(url: str) -> bool:
    return url[:5].lower() == "data:"
