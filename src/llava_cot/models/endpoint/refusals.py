"""What a server means by an error: a failure that may pass, a field that it does not take, a prompt that its
filter stops, or an account that gets no more answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# Statuses of failures that may pass: those of RFC 9110, Cloudflare's (520 to 524) and Anthropic's (529).
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, *range(520, 525), 529})

_MOST = 500  # characters of a quoted message
# Codes and words of OpenAI, Azure, OpenRouter, Anthropic, DeepSeek and Gemini.
_QUOTA_CODES = (
    "insufficient_quota",
    "insufficient_balance",
    "billing_hard_limit_reached",
    "billing_not_active",
)
_QUOTA_WORDS = re.compile(
    r"(exceeded|out of|insufficient|run out|too low).{0,40}\b(quota|balance|credits?)\b"
    r"|\b(quota|balance|credits?)\b.{0,40}(exceeded|exhausted|insufficient|too low|used up)",
    re.IGNORECASE,
)
# Gemini calls its limits of each minute a quota, too; then it says when to try again.
_PASSES = re.compile(r"\b(try|retry)\b.{0,20}\b(in|after)\b|per (minute|second)", re.IGNORECASE)
_NO_MODEL_CODES = ("model_not_found", "deployment_not_found", "deploymentnotfound", "not_found_error")
_NO_MODEL_WORDS = re.compile(
    r"\bmodel\b.{0,120}(not found|not exist|no longer|deprecated|decommissioned|retired|not have access)"
    r"|no such model|not a valid model|no endpoints found for|(not found|unknown|invalid).{0,20}\bmodel\b",
    re.IGNORECASE,
)
_FILTER_CODES = ("content_filter", "content_policy_violation", "moderation_blocked", "data_inspection_failed")
_FILTER_WORDS = re.compile(r"content (management )?(policy|filter)|was flagged|moderation", re.IGNORECASE)
_NOT_OPTIONS = ("model", "messages", "stream")  # fields of every request; their names are common words
_SHORT = 4  # names of fields of so many letters are words of other meaning, too


@dataclass(frozen=True)
class ServerError:
    """An error in a reply: its message, its codes in lower case, and the field that it is about."""

    message: str
    codes: tuple[str, ...] = ()
    param: str | None = None
    status: int | None = None  # where the body has one of its own


def read_error(reply: Any) -> ServerError:
    """The error in a body, whichever of the usual forms that has."""
    found, codes, param, status = reply, list[str](), None, None
    for name in ("error", "message", "detail"):
        if isinstance(found, dict):
            codes += [found[key].casefold() for key in ("code", "type") if isinstance(found.get(key), str)]
            param = found["param"] if isinstance(found.get("param"), str) else param
            status = found["code"] if isinstance(found.get("code"), int) else status
            found = found.get(name, found)
    text = " ".join(found.split()) if isinstance(found, str) else json.dumps(found) if found else ""
    return ServerError(text, tuple(codes), param, status)


def quote(error: ServerError) -> str:
    """The message of an error, for the end of a sentence."""
    text = error.message.rstrip(".")
    text = text if len(text) <= _MOST else text[: _MOST - 3] + "..."
    return f": {text}" if text else ""


def named_field(error: ServerError, fields: Iterable[str]) -> str | None:
    """The option of a request that an error is about, None if it names none of the fields.

    The longest name counts where one contains another, as `top_logprobs` does.
    """
    known = sorted(set(fields).difference(_NOT_OPTIONS), key=len, reverse=True)
    if error.param is not None:
        first = re.split(r"[.\[]", error.param)[0]
        if first in known:
            return first
    for name in known:
        before, after = ("['\"`]", "['\"`]") if len(name) <= _SHORT else (r"(?<!\w)", r"(?!\w)")
        if re.search(before + re.escape(name) + after, error.message):
            return name
    return None


def is_filtered(status: int, error: ServerError) -> bool:
    """Whether a filter of the server stopped the prompt."""
    if any(code in _FILTER_CODES for code in error.codes):
        return True
    return status in (400, 403) and bool(_FILTER_WORDS.search(error.message))


def is_unavailable(status: int, error: ServerError, field: str | None, retry_after: float = 0.0) -> bool:
    """Whether every other request would be refused as well: by the quota, the key or the model.

    Args:
        status: The HTTP status.
        error: The error in the body.
        field: The field of the request that it is about, if it is about one.
        retry_after: The seconds after which the server wants the request again; 0 if it does not say.
    """
    if any(code in _QUOTA_CODES for code in error.codes):
        return True
    if status in (400, 403, 429) and _QUOTA_WORDS.search(error.message):
        return not retry_after and not _PASSES.search(error.message)
    if any(code in _NO_MODEL_CODES for code in error.codes):
        return True
    if status == 404:
        return field is None and bool(_NO_MODEL_WORDS.search(error.message))
    return status in (401, 402) or (status == 403 and field is None)
