"""What a server can do: found by short requests, and saved in a file for each server and model."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from pydantic import TypeAdapter

from llava_cot.core.files import write_whole
from llava_cot.errors import ServerRefusal
from llava_cot.models.base import Constraint, Prompt
from llava_cot.models.endpoint.prompts import (
    OPTION_FIELDS,
    PromptFormat,
    SchemaField,
    constraint_fields,
    messages,
)
from llava_cot.models.endpoint.replies import KEEP_STOP, Json, named_stop, text_of

# Sends the fields of a chat completion and returns the reply. Raises ModelError.
Send = Callable[[Json], Awaitable[Json]]

# A line that is easy to copy and that no model would continue by chance.
_BEGUN, _REST = "amber birch cedar", "delta ember fern"
_LINE = Prompt.of(f"Copy this line and write nothing else: {_BEGUN} {_REST}")
_BEGUN_LINE = Prompt(_LINE.messages, _BEGUN)
_STOP = "ember"
_TOKENS = 16
# Servers are recognized by `owned_by` in /v1/models; what they do does not depend on the model's skill.
_FORMATS: dict[str, PromptFormat] = {"vllm": "continue", "sglang": "continue", "llamacpp": "trailing"}
_NAME_THE_STOP = ("vllm", "sglang")
_OPTIONS: dict[str, tuple[str, ...]] = {
    "vllm": tuple(names[0] for names in OPTION_FIELDS.values()),
    "sglang": tuple(names[0] for names in OPTION_FIELDS.values()),
    "llamacpp": tuple(names[-1] for names in OPTION_FIELDS.values()),
}
_TRIED = 1  # a valid value of each option
# A schema that no reply has by chance: the line's first word, as the value of a field.
_SCHEMA = Constraint(
    "json",
    '{"type": "object", "properties": {"tree": {"type": "string", "enum": ["amber"]}}, '
    '"required": ["tree"], "additionalProperties": false}',
)
_SCHEMA_TOKENS = 64


@dataclass(frozen=True)
class Capabilities:
    """What one model behind one address can do."""

    prefix: PromptFormat  # how the server continues the assistant's text
    many: bool  # a request can have several samples
    stops: bool  # the reply includes or names the stop string at which it stopped
    top_logprobs: int  # how many tokens' log-probabilities it gives at each position (0: none)
    seed: bool  # it takes a seed
    limit: str  # its name for the token limit
    json_schema: SchemaField  # the field in which it takes a JSON schema for the reply
    option_fields: tuple[str, ...]  # those for top-k, min-p and repetition penalty that it has

    @property
    def sampling_options(self) -> tuple[str, ...]:
        """The `OPTIONAL_SAMPLING` that it has a field for."""
        return tuple(option for option, names in OPTION_FIELDS.items() if {*names} & {*self.option_fields})


_IN_WORDS: dict[PromptFormat, str] = {
    "continue": "continued (continue_final_message)",
    "trailing": "continued (a last message of the assistant)",
    "none": "not continued: the next turn asks for what comes next",
}


def describe(found: Capabilities) -> dict[str, str]:
    """What a server can do, in words."""
    stops = "included or named" if found.stops else "neither included nor named: samples are cut here"
    top, schema = found.top_logprobs, found.json_schema
    logprobs = f"of the {top} likeliest tokens" if top else "none: no judge logits or likelihood"
    return {
        "assistant's text": _IN_WORDS[found.prefix],
        "samples": "several per request" if found.many else "one per request",
        "stop strings": stops,
        "log-probabilities": logprobs,
        "seed": "taken" if found.seed else "refused: no run can be repeated",
        "token limit": found.limit,
        "JSON schema": "not enforced: no method msg" if schema == "none" else f"enforced ({schema})",
        "sampling options": ", ".join(("temperature", "top_p", *found.sampling_options)),
    }


async def find_capabilities(send: Send, owner: str) -> Capabilities:
    """Find out everything by short requests. `owner` is who serves the model, if known. Raises ModelError."""
    base = await _base(send)
    limit = next(name for name in base if name.startswith("max_"))
    prefix, many, stops, top, schema, options = await asyncio.gather(
        _prefix(send, base, owner),
        _many(send, base),
        _stops(send, base, owner),
        _top_logprobs(send, base),
        _json_schema(send, base | {limit: _SCHEMA_TOKENS}, owner),
        _option_fields(send, base, owner),
    )
    return Capabilities(prefix, many, stops, top, "seed" in base, limit, schema, options)


async def _base(send: Send) -> Json:
    """Fields of a plain question that the server takes. OpenAI's newer models need the second limit."""
    first: ServerRefusal | None = None
    for limit in ("max_tokens", "max_completion_tokens"):
        for seed in ({"seed": 1}, {}):
            base: Json = {limit: _TOKENS, **seed}
            try:
                await send(base | {"messages": messages(_LINE, "none", (), None)[0]})
                return base
            except ServerRefusal as refusal:
                if refusal.status not in (400, 422):
                    raise
                first = first or refusal
    assert first is not None
    raise first


async def _try(
    send: Send, fields: Json, prompt: Prompt = _LINE, way: PromptFormat = "none"
) -> list[Json] | None:
    """The choices of a reply; None if the server refuses these fields."""
    turns, extra = messages(prompt, way, (), None)
    try:
        reply = await send(fields | extra | {"messages": turns})
    except ServerRefusal as refusal:
        if refusal.status not in (400, 422):
            raise
        return None
    return [choice for choice in reply["choices"] if isinstance(choice, dict)]


async def _prefix(send: Send, base: Json, owner: str) -> PromptFormat:
    """How a line is continued where it was begun; first without extra fields, which may be ignored."""
    if owner in _FORMATS:
        return _FORMATS[owner]
    ways: tuple[PromptFormat, ...] = ("trailing", "continue")
    for way in ways:
        choices = await _try(send, base, _BEGUN_LINE, way)
        if choices and text_of(choices[0]).lstrip().startswith(_REST.split()[0]):
            return way
    return "none"


async def _many(send: Send, base: Json) -> bool:
    return len(await _try(send, base | {"n": 2}) or ()) == 2


async def _stops(send: Send, base: Json, owner: str) -> bool:
    """Whether the stop string is included or named: one that is silently cut off might be any, or none."""
    if owner in _NAME_THE_STOP:
        return True
    choices = await _try(send, base | KEEP_STOP | {"stop": [_STOP]}) or ()
    return any(named_stop(c, (_STOP,)) or text_of(c).rstrip().endswith(_STOP) for c in choices)


async def _top_logprobs(send: Send, base: Json) -> int:
    for count in (20, 5):  # the most that OpenAI and vLLM allow, and that others do
        for choice in await _try(send, base | {"logprobs": True, "top_logprobs": count}) or ():
            content = (choice.get("logprobs") or {}).get("content")
            return count if content and content[0].get("top_logprobs") else 0
    return 0


async def _json_schema(send: Send, base: Json, owner: str) -> SchemaField:
    """The field in which a schema is enforced, and not just ignored. Only vLLM has had fields of its own."""
    ways: list[SchemaField] = ["response_format"]
    if owner == "vllm":
        ways += ["structured_outputs", "guided_json"]
    for way in ways:
        for choice in await _try(send, base | constraint_fields(_SCHEMA, way)) or ():
            try:
                if json.loads(text_of(choice)) == {"tree": "amber"}:
                    return way
            except ValueError:
                pass
    return "none"


async def _option_fields(send: Send, base: Json, owner: str) -> tuple[str, ...]:
    """The fields that the server knows: it refuses a value of a wrong type, and takes a valid one."""
    if owner in _OPTIONS:
        return _OPTIONS[owner]

    async def known(name: str) -> bool:
        wrong = await _try(send, base | {name: "no number"})
        return wrong is None and await _try(send, base | {name: _TRIED}) is not None

    names = [name for names in OPTION_FIELDS.values() for name in names]
    found = await asyncio.gather(*map(known, names))
    return tuple(name for name, is_known in zip(names, found, strict=True) if is_known)


def capabilities_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "llava-cot" / "endpoints"


def _file(url: str, model: str) -> Path:
    """One file for each, so that processes that open several do not overwrite what the others found."""
    return capabilities_folder() / f"{sha256(f'{url} {model}'.encode()).hexdigest()[:16]}.json"


def load(url: str, model: str) -> Capabilities | None:
    """What was found before; None if nothing was, or if an earlier version of this package found less."""
    try:
        return TypeAdapter(Capabilities).validate_json(_file(url, model).read_bytes())
    except (OSError, ValueError):
        return None


def save(url: str, model: str, found: Capabilities) -> None:
    """Save for the next time. Where nothing can be written, the requests are sent again then."""
    file = _file(url, model)
    with suppress(OSError, ValueError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps({"url": url, "model": model} | asdict(found), indent=1) + "\n")
