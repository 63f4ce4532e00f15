"""What a server can do: found out by asking it, and kept in a file for each.

Owns the questions that find out. Knows no HTTP, no pool and no sampling.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from llava_cot.core.files import write_whole
from llava_cot.errors import ModelError
from llava_cot.models.base import Constraint, Prompt
from llava_cot.models.endpoint.http import RequestRefused
from llava_cot.models.endpoint.prompts import PromptFormat, SchemaField, held_to, messages
from llava_cot.models.endpoint.replies import KEEP_STOP, stop_told, text_of

Json = dict[str, Any]
# Sends the fields of a chat completion; the reply. Raises ModelError.
Ask = Callable[[Json], Awaitable[Json]]

# A line that is easy to copy and that nobody would continue by chance.
_BEGUN, _REST = "amber birch cedar", "delta ember fern"
_LINE = Prompt.of(f"Copy this line and write nothing else: {_BEGUN} {_REST}")
_BEGUN_LINE = Prompt(_LINE.messages, _BEGUN)
_STOP = "ember"
_TOKENS = 16
# Who they are is told by `owned_by` in /v1/models; what they do does not depend on the model's skill.
_KNOWN: dict[str, PromptFormat] = {"vllm": "continue", "sglang": "continue", "llamacpp": "trailing"}
_NAME_THE_STOP = ("vllm", "sglang")
# A form that no reply has by chance: the line's first word, as the value of a field.
_FORM = Constraint(
    "json",
    json.dumps(
        {
            "type": "object",
            "properties": {"tree": {"type": "string", "enum": ["amber"]}},
            "required": ["tree"],
            "additionalProperties": False,
        }
    ),
)
_FORM_TOKENS = 64


@dataclass(frozen=True)
class Capabilities:
    """What one model behind one address can do.

    `prefix` is how it continues the assistant's text, `many` whether it gives several samples a request,
    `stops` whether it says at which stop string it stopped, `top_logprobs` how many tokens' log-probabilities
    it tells at each position (0: none), `seed` whether it takes one, `limit` what it calls the token limit,
    `json_schema` in which field it takes a JSON schema that it holds a reply to.
    """

    prefix: PromptFormat
    many: bool
    stops: bool
    top_logprobs: int
    seed: bool
    limit: str
    json_schema: SchemaField = "none"


_IN_WORDS: dict[PromptFormat, str] = {
    "continue": "continued (continue_final_message)",
    "trailing": "continued (a last message of the assistant)",
    "none": "not continued: the next turn asks for what comes next",
}


def describe(capabilities: Capabilities) -> dict[str, str]:
    """What a server can do, in words."""
    top = capabilities.top_logprobs
    return {
        "assistant's text": _IN_WORDS[capabilities.prefix],
        "samples": "several a request" if capabilities.many else "one a request",
        "stop strings": "kept or named"
        if capabilities.stops
        else "neither kept nor named: samples are cut here",
        "log-probabilities": f"of the {top} likeliest tokens"
        if top
        else "none: no judge logits or likelihood",
        "seed": "taken" if capabilities.seed else "refused: no run can be repeated",
        "token limit": capabilities.limit,
        "form": "not forced: no method msg"
        if capabilities.json_schema == "none"
        else f"forced, a JSON schema ({capabilities.json_schema})",
    }


async def find_out(ask: Ask, owner: str) -> Capabilities:
    """Ask about everything, in a dozen short requests at most. Raises ModelError."""
    base = await _base(ask)
    limit = next(name for name in base if name.startswith("max_"))
    prefix, many, stops, top, schema = await asyncio.gather(
        _prefix(ask, base, owner),
        _many(ask, base),
        _stops(ask, base, owner),
        _top_logprobs(ask, base),
        _form(ask, base | {limit: _FORM_TOKENS}, owner),
    )
    return Capabilities(prefix, many, stops, top, "seed" in base, limit, schema)


async def _base(ask: Ask) -> Json:
    """Fields of a plain question that the server takes. OpenAI's newer models want the second limit."""
    first: RequestRefused | None = None
    for limit in ("max_tokens", "max_completion_tokens"):
        for seed in ({"seed": 1}, {}):
            base: Json = {limit: _TOKENS, **seed}
            try:
                await ask(base | {"messages": messages(_LINE, "none", (), None)[0]})
                return base
            except RequestRefused as refusal:
                if refusal.status not in (400, 422):
                    raise
                first = first or refusal
    assert first is not None
    raise first


async def _try(ask: Ask, fields: Json, prompt: Prompt = _LINE, way: PromptFormat = "none") -> list[Json]:
    """The choices of a reply; none if the server refuses these fields."""
    turns, extra = messages(prompt, way, (), None)
    try:
        reply = await ask(fields | extra | {"messages": turns})
    except RequestRefused as refusal:
        if refusal.status not in (400, 422):
            raise
        return []
    return [choice for choice in reply["choices"] if isinstance(choice, dict)]


async def _prefix(ask: Ask, base: Json, owner: str) -> PromptFormat:
    """Whether the line goes on where it was begun; without the extra fields first, which may be ignored."""
    if owner in _KNOWN:
        return _KNOWN[owner]
    ways: tuple[PromptFormat, ...] = ("trailing", "continue")
    for way in ways:
        choices = await _try(ask, base, _BEGUN_LINE, way)
        if choices and text_of(choices[0]).lstrip().startswith(_REST.split()[0]):
            return way
    return "none"


async def _many(ask: Ask, base: Json) -> bool:
    return len(await _try(ask, base | {"n": 2})) == 2


async def _stops(ask: Ask, base: Json, owner: str) -> bool:
    """Whether the stop string is kept or named: one that is silently cut off might be any, or none."""
    if owner in _NAME_THE_STOP:
        return True
    choices = await _try(ask, base | KEEP_STOP | {"stop": [_STOP]})
    return any(stop_told(c, (_STOP,)) or text_of(c).rstrip().endswith(_STOP) for c in choices)


async def _top_logprobs(ask: Ask, base: Json) -> int:
    for count in (20, 5):  # what OpenAI and vLLM, and what others allow at most
        for choice in await _try(ask, base | {"logprobs": True, "top_logprobs": count}):
            content = (choice.get("logprobs") or {}).get("content")
            return count if content and content[0].get("top_logprobs") else 0
    return 0


async def _form(ask: Ask, base: Json, owner: str) -> SchemaField:
    """Where a schema is taken, and not just left unread. Only vLLM has had fields of its own."""
    ways: list[SchemaField] = ["response_format"]
    if owner == "vllm":
        ways += ["structured_outputs", "guided_json"]
    for way in ways:
        for choice in await _try(ask, base | held_to(_FORM, way)):
            try:
                if json.loads(text_of(choice)) == {"tree": "amber"}:
                    return way
            except ValueError:
                pass
    return "none"


def capabilities_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "llava-cot" / "endpoints"


def _file(url: str, model: str) -> Path:
    """One for each, so that processes which open several do not overwrite what the others found."""
    return capabilities_folder() / f"{sha256(f'{url} {model}'.encode()).hexdigest()[:16]}.json"


def recall(url: str, model: str) -> Capabilities | None:
    """What was found out before."""
    try:
        known = json.loads(_file(url, model).read_text(encoding="utf-8"))
        return Capabilities(**{field.name: known[field.name] for field in fields(Capabilities)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(url: str, model: str, found: Capabilities) -> None:
    """Keep it for the next time; where nothing can be written, the server is asked again."""
    file = _file(url, model)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps({"url": url, "model": model} | asdict(found), indent=1) + "\n")
    except (OSError, ValueError):
        pass


def only_name(listed: Json, url: str) -> tuple[str, str]:
    """The model's name and its owner from a list with one model. Raises ModelError if there are several."""
    models = [m for m in listed["data"] if isinstance(m, dict) and isinstance(m.get("id"), str)]
    if len(models) == 1:
        return models[0]["id"], str(models[0].get("owned_by", ""))
    if not models:
        raise ModelError(f"{url} lists no models; name one with --model-name")
    names = ", ".join(m["id"] for m in models[:10]) + (", ..." if len(models) > 10 else "")
    raise ModelError(f"{url} has {len(models)} models; choose one with --model-name: {names}")
