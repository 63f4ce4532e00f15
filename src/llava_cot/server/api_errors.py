"""Errors in OpenAI's shape: what a client is told, and with which status.

Owns the mapping of refusals and failures to statuses, in one place. Knows no route.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from llava_cot.errors import ModelFailure

# The status of a request whose client went away; nobody reads it (nginx's number).
CLIENT_GONE = 499


class ErrorBody(BaseModel):
    """What is wrong, where, and what to do."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorReply(BaseModel):
    """Every error of the server."""

    error: ErrorBody


class ApiError(HTTPException):
    """A request cannot be answered; `message` is one sentence for whoever sent it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        # JSON strings may hold half a surrogate pair, which cannot be sent back.
        sentence = message.encode("utf-8", "replace").decode("utf-8")
        super().__init__(status, sentence, dict(headers or {}))
        self.body = ErrorBody(message=sentence, type=_kind(status), param=param, code=code)


def _kind(status: int) -> str:
    if status == 401:
        return "authentication_error"
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"


def api_error(error: Exception) -> ApiError:
    """What a client is told of a refusal or a failure while its question was answered."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, _plain(error), headers=error.headers)
    if isinstance(error, ModelFailure):
        return ApiError(503, str(error), code="model_failed")
    if isinstance(error, ValueError):
        return ApiError(400, str(error))
    return ApiError(500, "the server failed; its log says why", code="internal_error")


def _plain(error: HTTPException) -> str:
    known = {404: "there is nothing at this address; the API is under /v1", 405: "the method is not allowed"}
    return known.get(error.status_code, error.detail)


def _invalid(error: RequestValidationError) -> ApiError:
    first: dict[str, Any] = error.errors()[0]
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {first['ctx']['error']}")
    where = ".".join(str(part) for part in first["loc"][1:]) or None
    return ApiError(400, f"{where or 'the body'}: {first['msg'].removeprefix('Value error, ')}", param=where)


def error_response(error: Exception) -> JSONResponse:
    told = api_error(error)
    return JSONResponse(
        ErrorReply(error=told.body).model_dump(), status_code=told.status_code, headers=told.headers
    )
