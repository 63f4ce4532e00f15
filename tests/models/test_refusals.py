"""What servers mean by an error, by the bodies of several providers."""

from __future__ import annotations

from typing import Any

import pytest

from llava_cot.models.endpoint.refusals import is_filtered, is_unavailable, named_field, quote, read_error

FIELDS = ("model", "messages", "max_tokens", "temperature", "top_p", "logprobs", "top_logprobs", "n", "stop")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": {"message": "m", "code": "C", "type": "T", "param": "p"}}, ("m", ("c", "t"), "p", None)),
        ({"error": {"message": "m", "code": 402}}, ("m", (), None, 402)),
        ({"message": "m", "type": "T", "code": 404}, ("m", ("t",), None, 404)),  # vLLM before 0.9
        ({"detail": "Not Found"}, ("Not Found", (), None, None)),
        ({"detail": [{"loc": ["body", "n"], "msg": "no"}]}, None),
        ({"error": "m"}, ("m", (), None, None)),
        ("m\n m", ("m m", (), None, None)),
        (None, ("", (), None, None)),
    ],
)
def test_the_usual_forms_of_an_error_are_read(body: Any, expected: Any) -> None:
    found = read_error(body)
    if expected is None:
        assert '"loc": ["body", "n"]' in found.message
    else:
        assert (found.message, tuple(dict.fromkeys(found.codes)), found.param, found.status) == expected


@pytest.mark.parametrize(
    ("message", "param", "field"),
    [
        (
            "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens'",
            None,
            "max_tokens",
        ),
        ("You are not allowed to request logprobs from this model", None, "logprobs"),
        ("top_logprobs must be at most 5", None, "top_logprobs"),
        ("Invalid value", "temperature", "temperature"),
        ("Invalid value", "messages[0].content", None),
        ("The project does not have access to the model", "model", None),
        ("Invalid value", "logprobs.count", "logprobs"),
        ("the server will stop now, n times", None, None),
        ("`n` must be 1", None, "n"),
        ('"stop" is not supported', None, "stop"),
        ("Internal error", None, None),
    ],
)
def test_the_field_is_the_one_that_is_named(message: str, param: str | None, field: str | None) -> None:
    assert named_field(read_error({"error": {"message": message, "param": param}}), FIELDS) == field


@pytest.mark.parametrize(
    ("status", "error", "after", "closed"),
    [
        (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}, 0, True),
        (429, {"message": "Rate limit reached for requests", "code": "rate_limit_exceeded"}, 0, False),
        # Gemini's limits of a minute and of a day have the same words.
        (429, {"message": "You exceeded your current quota. Please retry in 34.07s."}, 0, False),
        (429, {"message": "You exceeded your current quota."}, 30, False),
        (429, {"message": "You exceeded your current quota, please check your billing."}, 0, True),
        (400, {"message": "Your credit balance is too low to access the Anthropic API."}, 0, True),
        (402, {"message": "Insufficient Balance"}, 0, True),
        (401, {"message": "Incorrect API key provided"}, 0, True),
        (403, {"message": "The project does not have access to the model"}, 0, True),
        (404, {"message": "The model `x` does not exist or you do not have access to it."}, 0, True),
        (404, {"message": "No endpoints found for some/model."}, 0, True),
        (404, {"message": "No endpoints found that support image input"}, 0, False),
        (404, {"message": "Not Found"}, 0, False),
        (400, {"message": "The maximum context length of this model is 8192 tokens"}, 0, False),
        (400, {"message": "The image is too large; the quota of tokens is not known"}, 0, False),
        (503, {"message": "The model is overloaded"}, 0, False),
    ],
)
def test_an_account_is_closed_by_what_every_request_would_meet(
    status: int, error: dict[str, Any], after: float, closed: bool
) -> None:
    assert is_unavailable(status, read_error({"error": error}), None, after) is closed


def test_a_forbidden_option_closes_no_account() -> None:
    error = read_error({"error": {"message": "You are not allowed to request logprobs from this model"}})
    assert not is_unavailable(403, error, named_field(error, FIELDS))


@pytest.mark.parametrize(
    ("status", "error", "filtered"),
    [
        (400, {"message": "The response was filtered", "code": "content_filter"}, True),
        (400, {"message": "... triggering Azure OpenAI's content management policy."}, True),
        (403, {"message": "Your input was flagged"}, True),
        (400, {"message": "Invalid image"}, False),
        (500, {"message": "moderation service is down"}, False),
    ],
)
def test_filters(status: int, error: dict[str, Any], filtered: bool) -> None:
    assert is_filtered(status, read_error({"error": error})) is filtered


def test_a_quoted_message_is_short() -> None:
    quoted = quote(read_error({"error": f"bad key {'x' * 900}"}))
    assert quoted.startswith(": bad key xxx") and len(quoted) == 502
    assert quote(read_error(None)) == ""
