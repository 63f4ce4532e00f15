"""Errors in OpenAI's format, and the HTTP status of each failure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from llava_cot.core.wording import meant, shortened, writable
from llava_cot.errors import ModelFailure, ModelRefusal, ModelUnavailable, RequestError
from llava_cot.server.schemas import MAX_STOPS, SearchFields

# The status for a client that has disconnected, as nginx logs it; nobody receives it.
CLIENT_GONE = 499
_LONGEST = 2000  # characters of a sentence


class ErrorBody(BaseModel):
    """What is wrong, where, and what to do."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorReply(BaseModel):
    """The body of every error."""

    error: ErrorBody


class ApiError(HTTPException):
    """A request that cannot be answered.

    `param` is the field at fault, such as "search.judge"; `code` is for programs, such as "queue_full".
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        # It may quote a text of any length, and half a surrogate pair, which UTF-8 cannot encode.
        sentence = shortened(writable(message), _LONGEST)
        super().__init__(status, sentence, dict(headers or {}))
        self.body = ErrorBody(message=sentence, type=_error_type(status), param=param, code=code)


def api_error(error: Exception) -> ApiError:
    """The reply to any exception raised while a request is answered."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestValidationError):
        return _invalid_body(error)
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, _plain_detail(error), headers=error.headers)
    if isinstance(error, ModelRefusal):
        return ApiError(400, str(error), code="content_filter")
    if isinstance(error, ModelFailure | ModelUnavailable):
        return ApiError(503, str(error), code="model_failed")
    if isinstance(error, RequestError):
        return request_error(error, f"search.{error.field}")
    if isinstance(error, ValueError):
        return ApiError(400, str(error))
    return ApiError(500, "the server failed; its log says why", code="internal_error")


def request_error(error: RequestError, param: str) -> ApiError:
    """The reply to choices that cannot work; `param` is the field of the HTTP request that made them."""
    message = str(error)
    if error.needs is not None:  # the hint after the semicolon is for the command line
        problem = message.partition(";")[0]
        message = f"{problem}, and this server has none; choose another method or judge"
    return ApiError(400, message, param=param)


def error_response(error: Exception) -> JSONResponse:
    """The HTTP response for an exception."""
    reply = api_error(error)
    return JSONResponse(
        ErrorReply(error=reply.body).model_dump(), status_code=reply.status_code, headers=reply.headers
    )


def _error_type(status: int) -> str:
    if status == 401:
        return "authentication_error"
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"


def _plain_detail(error: HTTPException) -> str:
    known = {404: "there is nothing at this address; the API is under /v1", 405: "the method is not allowed"}
    return known.get(error.status_code, error.detail)


def _invalid_body(error: RequestValidationError) -> ApiError:
    first: dict[str, Any] = error.errors()[0]
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {first['ctx']['error']}")
    where, reason = _where(first["loc"]), _reason(first)
    if where.partition(".")[0] == "stop":  # one fault for each form that it may have
        where, reason = (
            "stop",
            f"give a text, or a list of at most {MAX_STOPS} texts; none of them may be empty",
        )
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        where = f"{where}.type"
    if first["type"] == "extra_forbidden":  # only `search` forbids them
        path, _, name = where.rpartition(".")
        return unknown_field(name, f"{path}.", SearchFields.model_fields)
    return ApiError(400, f"{where or 'the body'}: {reason}", param=where or None)


# What is wrong, by pydantic's name of it; the names in braces are those of its details.
_REASONS = {
    "missing": "this field is required",
    "list_type": "give a list",
    "string_type": "give a text",
    "int_type": "give a whole number",
    "int_from_float": "give a whole number",
    "float_type": "give a number",
    "finite_number": "give a finite number",
    "bool_type": "give true or false",
    "greater_than": "give more than {gt}",
    "greater_than_equal": "give at least {ge}",
    "less_than": "give less than {lt}",
    "less_than_equal": "give at most {le}",
    "too_short": "give a list of at least {min_length}",
    "too_long": "give a list of at most {max_length}",
    "literal_error": "give {expected}",
    "union_tag_not_found": "this field is required",
} | dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "give an object")


def _reason(fault: Mapping[str, Any]) -> str:
    """What a field takes, for one that has something else."""
    last = fault["loc"][-1]
    if last == "parts":
        return "give a text, or a list of parts"
    if last == "ImageUrl":
        return "give the URL, by itself or as the url of an object"
    if fault["type"] == "union_tag_invalid":
        kinds = " or ".join(fault["ctx"]["expected_tags"].split(", "))
        return f"{shortened(fault['ctx']['tag'])!r} is not supported; send {kinds}"
    if fault["type"] in _REASONS:
        whole = {k: int(v) if v in (0, 1) else v for k, v in fault.get("ctx", {}).items()}  # 0, not 0.0
        return _REASONS[fault["type"]].format(**whole)
    return str(fault["msg"]).removeprefix("Value error, ")


def _where(loc: tuple[int | str, ...]) -> str:
    """The place of a fault, without the names of pydantic's choices among a content's kinds."""
    names = [str(part) for part in loc[1:]]
    if "content" in names:
        at = names.index("content") + 1
        names = [*names[:at], *names[at + 1 : at + 2], *names[at + 3 :]]
    return ".".join(name for name in names if name != "ImageUrl")


def unknown_field(name: str, path: str, known: Iterable[str]) -> ApiError:
    """The reply to a field that there is not, with the one that it resembles; `path` stands before it."""
    shown = f"{path}{writable(shortened(name, 80))}"
    return ApiError(400, f"{shown}: there is no such field; {meant(name[:80], known)}drop it", param=shown)
