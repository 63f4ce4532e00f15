"""Prompts as requests of the chat completions API: messages, images, constraints, sampling options.

How a server continues the assistant's text is its prompt format:

- "continue": the last message is the assistant's and stays open (vLLM, SGLang: `continue_final_message`).
- "trailing": the server continues a last message of the assistant without further fields.
- "none": the assistant's text is a turn of its own, and the next turn asks for what comes next.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Collection, Sequence
from typing import Any, Literal
from weakref import WeakKeyDictionary

from PIL import Image

from llava_cot.core.question import LoadedImage
from llava_cot.errors import ImageError
from llava_cot.models.base import OPTIONAL_SAMPLING, Constraint, Prompt, Sampling, optional_sampling

PromptFormat = Literal["continue", "trailing", "none"]
# Where a reply has the model's thinking: in a field that a reasoning parser fills, or in the text with tags.
ThinkingForm = Literal["apart", "inline", "none"]
# The field in which a server takes a JSON schema: OpenAI's, that of vLLM since 0.12, that of vLLM before.
SchemaField = Literal["response_format", "structured_outputs", "guided_json", "none"]

# The fields of the options that not every server has, the name in most servers first. llama.cpp has its own
# name for one, and counts tokens of the whole context only with a second field.
OPTION_FIELDS: dict[str, tuple[str, ...]] = {name: (name,) for name in OPTIONAL_SAMPLING} | {
    "repetition_penalty": ("repetition_penalty", "repeat_penalty")
}
_WHOLE_CONTEXT = {"repeat_penalty": {"repeat_last_n": -1}}

CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}
GO_ON = "Go on with your answer from where it broke off. Repeat nothing of it, and add no words about it."
ONLY_PART = "Write only the next part of your answer, up to and including"

# An image of more pixels is sent as JPEG: as PNG, a photograph of this size already takes some 2 MB.
_PNG_PIXELS = 1_000_000
_JPEG_QUALITY = 95
_JPEG_SIDE = 65_500  # libjpeg's longest
_JPEG = b"\xff\xd8"  # how one begins


def messages(
    prompt: Prompt, way: PromptFormat, stops: Sequence[str], image_side: int | None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The messages of a request, and the fields that go with them. `image_side` limits images, in pixels."""
    turns: list[dict[str, Any]] = []
    for message in prompt.messages:
        parts: list[dict[str, Any]] = [
            {"type": "text", "text": part}
            if isinstance(part, str)
            else {"type": "image_url", "image_url": {"url": data_url(part, image_side)}}
            for part in message.parts
        ]
        turns.append({"role": message.role, "content": parts if message.images else parts[0]["text"]})
    opened = "" if prompt.thinking is None or not prompt.prefix else f"{prompt.thinking[0]}\n"
    answer = {"role": "assistant", "content": opened + prompt.prefix.removeprefix("\n" if opened else "")}
    if way != "none":
        if not prompt.prefix:
            return turns, {}
        return [*turns, answer], dict(CONTINUE) if way == "continue" else {}
    words = _only_part(stops, prompt.prefix)
    if prompt.prefix:
        ask = f"{GO_ON} {words}".rstrip()
        return [*turns, answer, {"role": "user", "content": ask}], {}
    if words and turns:
        last = turns[-1]["content"]
        if isinstance(last, str):
            turns[-1]["content"] = f"{last}\n\n{words}"
        elif last[-1]["type"] == "text":
            last[-1]["text"] += f"\n\n{words}"
        else:
            last.append({"type": "text", "text": words})
    return turns, {}


def _only_part(stops: Sequence[str], prefix: str) -> str:
    """Where to end, for a model that is not stopped there: at the first stop string that is missing."""
    marks = [stop for stop in stops if stop == stop.strip() and stop not in prefix]
    if not marks:
        return ""
    later = f" (or, if that part is not needed, {' or '.join(marks[1:])})" if marks[1:] else ""
    return f"{ONLY_PART} {marks[0]}{later}."


def estimate_tokens(prompt: Prompt, written: int) -> int:
    """About how many tokens a request takes, before the server has reported any."""
    characters = sum(len(message.text) for message in prompt.messages) + len(prompt.prefix)
    images = sum(len(message.images) for message in prompt.messages)
    return characters // 4 + 1000 * images + written


def joined(prefix: str, text: str, way: PromptFormat) -> str:
    """A reply as the continuation of the prefix, which a new turn may repeat or begin without a space."""
    if way != "none" or not prefix:
        return text
    if text.lstrip().startswith(prefix.strip()):
        text = text.lstrip()[len(prefix.strip()) :]
    apart = not text or text[0].isspace() or prefix[-1].isspace()
    return text if apart else " " + text


def option_fields(sampling: Sampling, fields: Collection[str]) -> dict[str, Any]:
    """The fields of a request for the options that are set, of those `fields` that the server has."""
    found: dict[str, Any] = {}
    for option, value in optional_sampling(sampling).items():
        name = next(name for name in OPTION_FIELDS[option] if name in fields)
        found |= {name: value, **_WHOLE_CONTEXT.get(name, {})}
    return found


def constraint_fields(constraint: Constraint, way: SchemaField) -> dict[str, Any]:
    """The fields of a request whose reply must match a JSON schema."""
    schema = json.loads(constraint.text)
    if way == "structured_outputs":
        return {way: {"json": schema}}
    if way == "guided_json":
        return {way: schema}
    return {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        }
    }


# Cached as long as the image lives: a question sends its own dozens of times.
_urls: WeakKeyDictionary[LoadedImage, dict[int | None, str]] = WeakKeyDictionary()


def data_url(image: LoadedImage, side: int | None) -> str:
    """An image as a data URL, its longer side at most `side` pixels; its own file where that can be sent."""
    known = _urls.setdefault(image, {})
    if side not in known:
        known[side] = _encoded(image, side)
    return known[side]


async def encode_images(prompt: Prompt, side: int | None) -> None:
    """Encode a prompt's images in a thread, so that `data_url` returns at once."""
    for message in prompt.messages:
        for image in message.images:
            if side not in _urls.get(image, {}) and not _as_file(image, side):
                await asyncio.to_thread(data_url, image, side)


def _as_file(image: LoadedImage, side: int | None) -> bool:
    width, height = image.pil.size
    if image.file is None or (side is not None and max(width, height) > side):
        return False
    return image.file.startswith(_JPEG) or width * height <= _PNG_PIXELS


def _encoded(image: LoadedImage, side: int | None) -> str:
    if image.file is not None and _as_file(image, side):
        kind, data = "jpeg" if image.file.startswith(_JPEG) else "png", image.file
    else:
        picture, buffer = image.pil, io.BytesIO()
        if side is not None and max(picture.size) > side:
            scale = side / max(picture.size)
            width, height = (max(1, round(length * scale)) for length in picture.size)
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        small = picture.width * picture.height <= _PNG_PIXELS or max(picture.size) > _JPEG_SIDE
        kind = "png" if small else "jpeg"
        try:
            picture.save(buffer, kind, quality=_JPEG_QUALITY, subsampling=0)  # PNG ignores both options
        except (OSError, ValueError, MemoryError) as error:
            raise ImageError(f"cannot send the image {image.name}: it cannot be encoded ({error})") from None
        data = buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
