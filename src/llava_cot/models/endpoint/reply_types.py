"""What a server sends, as values to rely on: JSON within bounds, fields of the right types, without its key.

A server may send anything: what is wrong here costs one attempt at one question.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llava_cot.core.wording import first_fault, shortened

Json = dict[str, Any]

_DEEPEST = 64  # levels of a reply; the deepest that servers send have about ten
_MOST_TOKENS = 10**9  # of one request
# What spells a character of a key, or half a character, in JSON.
_ESCAPED = re.compile(r"\\[u/]")
_HALVES = re.compile("[\ud800-\udfff]")
_HIDDEN = "***"
_LEAST_KEY = 8  # characters; shorter ones, such as EMPTY and none, are put in where no key is needed

_Count = Annotated[int, Field(strict=True, ge=0, le=_MOST_TOKENS)]
# Natural logarithms of probabilities: -Infinity for none at all; those of rounded ones may be above 0.
_Logprob = Annotated[float, Field(strict=True, le=0.01, allow_inf_nan=True)]
_Text = Annotated[str, Field(strict=True)]


class _Fields(BaseModel):
    """Fields that are read; others are ignored, and null stands for an absent one."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Likely(_Fields):
    token: _Text
    logprob: _Logprob


class _Token(_Fields):
    token: _Text | None = None
    logprob: _Logprob | None = None
    bytes: list[Annotated[int, Field(strict=True, ge=0, le=255)]] | None = None
    top_logprobs: list[_Likely] | None = None


class _Logprobs(_Fields):
    content: list[_Token] | None = None


class _Message(_Fields):
    content: _Text | list[Any] | None = None
    refusal: _Text | None = None


class _Choice(_Fields):
    index: _Count | None = None
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: _Text | None = None
    logprobs: _Logprobs | None = None


class _Usage(_Fields):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    total_tokens: _Count | None = None


class _Reply(_Fields):
    choices: list[_Choice]
    usage: _Usage | None = None


def wrong_type(reply: Json) -> str | None:
    """The first field of a chat completion, or of an event of one, with a value that cannot be; or None."""
    try:
        choices = _Reply.model_validate(reply).choices
    except ValidationError as error:
        return shortened(first_fault(error), 200)
    except (OverflowError, RecursionError):  # a number, or lists in lists, beyond what can be checked
        return "a value is out of bounds"
    places = [choice.index for choice in choices if choice.index is not None]
    return "choices: two have the same index" if len(set(places)) < len(places) else None


def token_count(reply: Json, name: str) -> int | None:
    """A number of tokens in a reply's usage; None if there is none that can be."""
    usage = reply.get("usage")
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None


class Secret:
    """The key of a server, which is hidden wherever the server repeats it. `key` None: there is none."""

    def __init__(self, key: str | None) -> None:
        self._key = key if key is not None and len(key) >= _LEAST_KEY else None

    def hide(self, text: str) -> str:
        """The text with the key, and what UTF-8 cannot hold, replaced."""
        if self._key is not None:
            text = text.replace(self._key, _HIDDEN)
        return _HALVES.sub("\N{REPLACEMENT CHARACTER}", text)

    def settled(self, text: str) -> str:
        """As `hide`, without an end that may be the beginning of the key."""
        text, key = self.hide(text), self._key or ""
        most = min(len(text), max(0, len(key) - 1))
        held = next((size for size in range(most, 0, -1) if text.endswith(key[:size])), 0)
        return text[: len(text) - held]

    def parse_json(self, body: str | bytes) -> Any:
        """The JSON value of a body, the key hidden in it. Raises ValueError if it has none."""
        text = body if isinstance(body, str) else body.decode("utf-8-sig", "replace")
        try:
            value = json.loads(text)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        key = self._key
        spelled = key is not None and (key in text or "\\" in key or '"' in key)
        clean = self.hide if spelled or _ESCAPED.search(text) or _HALVES.search(text) else None
        return _walked(value, clean, _DEEPEST)


def _walked(value: Any, clean: Callable[[str], str] | None, levels: int) -> Any:
    """A JSON value with its strings cleaned. Raises ValueError if it has more levels."""
    if isinstance(value, str):
        return value if clean is None else clean(value)
    if not isinstance(value, dict | list):
        return value
    if not levels:
        raise ValueError("it is nested too deeply")
    if clean is None:  # the usual case, in which only the depth is checked
        for part in value.values() if isinstance(value, dict) else value:
            if isinstance(part, dict | list):
                _walked(part, None, levels - 1)
        return value
    if isinstance(value, list):
        return [_walked(part, clean, levels - 1) for part in value]
    return {clean(name): _walked(part, clean, levels - 1) for name, part in value.items()}
