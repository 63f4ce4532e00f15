"""A server that lies costs one question, never more, and its key appears nowhere."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from endpoint_double import Double

from llava_cot.errors import ModelError, ModelFailure, ModelRefusal, ModelUnavailable
from llava_cot.models.base import Continuation, Prompt, Sampling
from llava_cot.models.endpoint.client import EndpointModel
from llava_cot.models.endpoint.config import Provider
from llava_cot.models.scripted import ScriptedModel

KEY = "sk-secret-0123456789-abcdef"
QUESTION = Prompt.of("How many?")
SCRIPT = ScriptedModel(lambda prompt, rng: "Two cubes.", lambda prompt, options: [-1.0, -2.0])
Lie = Callable[[dict[str, Any]], bytes]


def response(body: object, status: int = 200, head: str = "") -> bytes:
    """All that a connection sends: a whole reply with a body of JSON, or of these bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = f"HTTP/1.1 {status} So\r\nContent-Length: {len(data)}\r\nConnection: close\r\n{head}\r\n"
    return lines.encode("latin-1") + data


def stream(*events: object) -> bytes:
    """A stream of events; a text is sent as it is."""
    parts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    body = "".join(f"data: {part}\n\n" for part in parts).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + body


def choice(index: int = 0, text: object = "Two.", **more: Any) -> dict[str, Any]:
    return {"index": index, "message": {"content": text}, "finish_reason": "stop", **more}


def reply(**more: Any) -> dict[str, Any]:
    """A good reply to a request for two samples, but for these fields."""
    usage = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
    return {"choices": [choice(0), choice(1)], "usage": usage, **more}


def tokens(**more: Any) -> dict[str, Any]:
    """A good reply with the logarithms of probabilities, but for these fields of a token."""
    good = {"token": "Two.", "logprob": -1.0, "bytes": None, "top_logprobs": []}
    return reply(choices=[choice(i, logprobs={"content": [good | more]}) for i in (0, 1)])


def with_usage(**more: Any) -> dict[str, Any]:
    return reply(usage={"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9, **more})


def raw(text: str) -> bytes:
    """The body of a good reply, in which `text` stands where the first text is."""
    return json.dumps(reply()).replace('"Two."', text, 1).encode()


def busy(after: str) -> bytes:
    return response({"error": "busy"}, 429, f"Retry-After: {after}\r\n")


DEEP = "[" * 900 + "]" * 900
DEEPER = "[" * 100_000 + "]" * 100_000
LIES: dict[str, bytes] = {
    "choices of another type": response(reply(choices=[1, None])),
    "a choice too few": response(reply(choices=[choice(0)])),
    "a choice too many": response(reply(choices=[choice(i) for i in range(3)])),
    "a choice twice": response(reply(choices=[choice(0), choice(0)])),
    "no choices": response(reply(choices=[])),
    "an index that is a text": response(reply(choices=[choice(0), choice(1) | {"index": "1"}])),
    "an index beyond all": response(reply(choices=[choice(0), choice(1) | {"index": 10**30}])),
    "a message that is a list": response(reply(choices=[choice(0), choice(1) | {"message": ["Two."]}])),
    "a text that is a number": response(reply(choices=[choice(0), choice(1, 2)])),
    "a reason that is a list": response(reply(choices=[choice(0), choice(1, finish_reason=["stop"])])),
    "a refusal that is a number": response(reply(choices=[choice(0), choice(1, message={"refusal": 3})])),
    "logprobs that are a text": response(reply(choices=[choice(i, logprobs="none") for i in (0, 1)])),
    "a logprob that is a text": response(tokens(logprob="-1")),
    "a logprob that is no number": response(tokens(logprob=math.nan)),
    "a probability above one": response(tokens(logprob=5.0)),
    "a logprob of many digits": response(json.dumps(tokens()).replace("-1.0", "-" + "9" * 999).encode()),
    "a logprob beyond all": response(json.dumps(tokens()).replace("-1.0", "1e999").encode()),
    "bytes that are a text": response(tokens(bytes="abc")),
    "a token that is a list": response(tokens(token=["Two."])),
    "likely tokens without a logprob": response(tokens(top_logprobs=[{"token": "1"}])),
    "a usage that is a list": response(reply(usage=[1, 2])),
    "a negative count": response(with_usage(completion_tokens=-5)),
    "a count that is true": response(with_usage(completion_tokens=True)),
    "a count of many digits": response(with_usage(total_tokens=10**400, prompt_tokens=10**400)),
    "a count that is no number": response(with_usage(prompt_tokens=math.nan)),
    "deep JSON": response(raw(DEEP)),
    "deeper JSON": response(raw(DEEPER)),
    "a number of 5,000 digits": response(raw("9" * 5000)),
    "no JSON": response(b"<html>busy</html>"),
    "a list": response([1, 2]),
    "null": response(None),
    "no UTF-8": response(raw('"Two."').replace(b"Two", b"\xff\xfe")),
    "half a character": response(raw('"Two \\ud800."')),
    "half a character in bytes": response(raw('"Two \xed."').replace("í".encode(), b"\xed\xa0\x80")),
    "a date in the year 9999": busy("Fri, 31 Dec 9999 23:59:59 -2359"),
    "a date that is none": busy("Fri, 99 Foo 9999 99:59:59 GMT"),
    "a wait that is no number": busy("nan"),
    "a wait beyond all": busy("1e999"),
    "an error that is deep": response(b'{"error": ' + DEEP.encode() + b"}", 400),
    "an error of other types": response({"error": {"message": {"a": [1]}, "code": [], "param": {}}}, 400),
    "a status of its own": response(reply(error={"code": 10**30, "message": "no"})),
    "a broken head": b"HTTP/1.1 200 OK\r\nX y\x00z: " + KEY.encode() + b"\r\n\r\n",
    "a long head": b"HTTP/1.1 200 OK\r\nX: " + KEY.encode() * 9999 + b"\r\n\r\n",
    "a status line that is none": f"HTTP/9.9 {KEY} OK\r\n\r\n".encode(),
    "broken chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + KEY.encode() + b"\r\n\r\n",
    "nothing": b"",
    "gzip that is none": response(b"plain", head="Content-Encoding: gzip\r\n"),
}  # fmt: skip
EVENTS: dict[str, bytes] = {
    "a choice of another type": stream({"choices": [1]}, "[DONE]"),
    "two choices": stream({"choices": [{"index": 1, "delta": {"content": "Two."}}]}, "[DONE]"),
    "a delta that is a text": stream({"choices": [{"index": 0, "delta": "Two."}]}, "[DONE]"),
    "a text that is a number": stream({"choices": [{"index": 0, "delta": {"content": 2}}]}, "[DONE]"),
    "a usage that is a text": stream({"choices": [], "usage": "much"}, "[DONE]"),
    "deep JSON": stream(DEEP, "[DONE]"),
    "deeper JSON": stream(DEEPER, "[DONE]"),
    "no end": stream({"choices": [choice(0)]}),
    "no event": stream("[DONE]"),
    "a long line": stream({"choices": [{"index": 0, "delta": {"content": "x" * 2**23}}]}, "[DONE]"),
    "no UTF-8": stream({"choices": [{"delta": {"content": "ü"}}]}).replace(b"\\u00fc", b"\xff"),
    "a whole reply that is none": stream().replace(b"data: ", b"") + b'{"choices": [{"message": 5}]}\n',
}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Double]:
    with Double(SCRIPT, key=KEY) as running:
        yield running


@pytest.fixture
def model(server: Double, monkeypatch: pytest.MonkeyPatch) -> Iterator[EndpointModel]:
    monkeypatch.setenv("LLAVA_COT_API_KEY", KEY)
    server.lie = None
    with closing(EndpointModel(Provider(url=server.url), None, {}, attempts=1)) as opened:
        yield opened


def parts_of_key(text: str) -> list[str]:
    return [part for i in range(len(KEY) - 7) if (part := KEY[i : i + 8]) in text]


def check_sound(found: list[Continuation]) -> None:
    """Check that samples hold what a trace can hold, and no key."""
    for sample in found:
        assert not parts_of_key(json.dumps(vars(sample)))
        sample.text.encode()
        assert 0 <= sample.completion_tokens <= 10**9 and 0 <= sample.prompt_tokens <= 10**9
        assert sample.logprob is None or sample.logprob <= 0.1


async def survive(model: EndpointModel, server: Double, lie: Lie, n: int, stream: list[str] | None) -> None:
    """Ask under a lie, which may cost this question alone, and then without."""
    server.lie = lie
    on_text = None if stream is None else stream.append
    try:
        found = await model.sample(QUESTION, n, Sampling(), on_text)
        assert len(found) == n
        check_sound(found)
    except ModelError as error:
        assert not isinstance(error, ModelUnavailable)
        assert not parts_of_key(str(error)) and "\n" not in str(error) and len(str(error)) < 1000
    finally:
        server.lie = None
    assert not parts_of_key("".join(stream or []))
    [good] = await model.sample(QUESTION, 1, Sampling())
    assert good.text == "Two cubes."


@pytest.mark.parametrize("name", LIES)
async def test_a_lie_costs_that_question_alone(name: str, model: EndpointModel, server: Double) -> None:
    await survive(model, server, lambda _: LIES[name], 2, None)


@pytest.mark.parametrize("name", EVENTS)
async def test_a_lie_in_a_stream_costs_that_question_alone(
    name: str, model: EndpointModel, server: Double
) -> None:
    await survive(model, server, lambda _: EVENTS[name], 1, [])


@pytest.mark.parametrize("name", [name for name in LIES if "logprob" in name or "token" in name])
async def test_a_lie_about_options_costs_that_question_alone(
    name: str, model: EndpointModel, server: Double
) -> None:
    server.lie = lambda _: LIES[name]
    with pytest.raises(ModelFailure):
        await model.choose(QUESTION, ("1", "2"))
    server.lie = None
    assert await model.choose(QUESTION, ("1", "2")) == [-1.0, -2.0]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(f"It is {KEY}."),
        json.dumps(f"It is {KEY}.").replace("sk-", "\\u0073k-"),
        json.dumps(f"{KEY}{KEY}"),
    ],
)
async def test_the_key_is_taken_out_of_answers(text: str, model: EndpointModel, server: Double) -> None:
    server.lie = lambda _: response(raw(text))
    for sample in await model.sample(QUESTION, 2, Sampling()):
        assert "***" in sample.text or sample.text == "Two."
        check_sound([sample])


@pytest.mark.parametrize("field", ["content", "refusal"])
async def test_the_key_is_taken_out_of_parts(field: str, model: EndpointModel, server: Double) -> None:
    kind = "text" if field == "content" else "refusal"
    parts = [{"type": kind, kind: f"It is {KEY[:9]}"}, {"type": kind, kind: KEY[9:]}]
    server.lie = lambda _: response(reply(choices=[choice(0, parts)]))
    if field == "content":
        [sample] = await model.sample(QUESTION, 1, Sampling())
        assert sample.text == "It is ***"
    else:
        with pytest.raises(ModelRefusal, match=r"refused to answer: It is \*\*\*$"):
            await model.sample(QUESTION, 1, Sampling())


@pytest.mark.parametrize(
    ("words", "lie"),
    [
        ("a choice without a message", response(reply(choices=[{"text": "Two.", "finish_reason": "stop"}]))),
        ("a choice without a message", response(reply(choices=[choice(message=None)]))),
        ("called a tool", response(reply(choices=[choice(message={"tool_calls": [{"id": "a"}]})]))),
    ],
)
async def test_what_is_no_answer_is_not_a_complete_one(
    words: str, lie: bytes, model: EndpointModel, server: Double
) -> None:
    server.lie = lambda _: lie
    with pytest.raises(ModelFailure, match=words):
        await model.sample(QUESTION, 1, Sampling())


@pytest.mark.parametrize(
    ("words", "lie"),
    [
        ("overloaded now", stream() + b'event: error\ndata: {"message": "overloaded now"}\n\n'),
        ("too long", stream({"object": "error", "message": "it is too long", "code": 400}, "[DONE]")),
        (
            "called a tool",
            stream({"choices": [{"delta": {"tool_calls": [{}]}, "finish_reason": "stop"}]}, "[DONE]"),
        ),
    ],
    ids=["event of that name", "object of that name", "tool"],
)
async def test_the_reason_of_an_error_in_a_stream_is_told(
    words: str, lie: bytes, model: EndpointModel, server: Double
) -> None:
    server.lie = lambda _: lie
    with pytest.raises(ModelError, match=words):
        await model.sample(QUESTION, 1, Sampling(), lambda text: None)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\n", b"\r"),
        (b"\n", b"\r\n"),
        (b', "delta', b',\ndata: "delta'),
        (b', "', b',\r\ndata: "'),
        (b"\n\n", b"\n"),
        (b": w", b"\xef\xbb\xbf: w"),
        (b"data: {", b"data:{"),
    ],
    ids=["CR", "CRLF", "two lines", "many lines", "no empty lines", "BOM", "no space"],
)
async def test_any_valid_stream_is_read(old: bytes, new: bytes, model: EndpointModel, server: Double) -> None:
    pieces = ["Two ", "cu", "bes, no: three."]
    events = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    head, body = stream(*events, end, "[DONE]").split(b"\r\n\r\n", 1)
    server.lie = lambda _: head + b"\r\n\r\n" + (b": waiting\n\n" + body).replace(old, new)
    shown: list[str] = []
    [sample] = await model.sample(QUESTION, 1, Sampling(), shown.append)
    assert sample.text == "".join(shown) == "Two cubes, no: three."
    assert sample.finish == "eos"


@pytest.mark.parametrize("size", [1, 5, 100])
async def test_the_key_is_taken_out_of_streams(size: int, model: EndpointModel, server: Double) -> None:
    told = f"It is {KEY}, or {KEY[:9]}"  # ... which may go on
    pieces = [told[i : i + size] for i in range(0, len(told), size)]
    events = [{"choices": [{"delta": {"content": piece}}]} for piece in pieces]
    server.lie = lambda _: stream(*events, "[DONE]")
    shown: list[str] = []
    [sample] = await model.sample(QUESTION, 1, Sampling(), shown.append)
    assert sample.text == "".join(shown) == f"It is ***, or {KEY[:9]}"


@pytest.mark.parametrize("status", [200, 400, 401, 404, 500])
async def test_the_key_is_taken_out_before_anything_is_cut(
    status: int, model: EndpointModel, server: Double
) -> None:
    for before in (280, 290, 295, 490, 495):
        for body in (b"x" * before + KEY.encode(), json.dumps({"error": "x" * before + KEY}).encode()):
            server.lie = lambda _, body=body: response(body, status)  # type: ignore[misc]
            with pytest.raises(ModelError) as told:
                await model.sample(QUESTION, 1, Sampling())
            assert not parts_of_key(str(told.value) + repr(told.value))


def test_the_key_is_taken_out_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAVA_COT_API_KEY", KEY)
    with (
        Double(SCRIPT, models=(f"model-{KEY}",), owner=KEY) as server,
        closing(EndpointModel(Provider(url=server.url), None, {})) as model,
    ):
        assert model.name == "model-***"
        assert KEY not in model.describe()


async def test_a_short_placeholder_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAVA_COT_API_KEY", "Two")
    with Double(SCRIPT) as server, closing(EndpointModel(Provider(url=server.url), None, {})) as model:
        assert (await model.sample(QUESTION, 1, Sampling()))[0].text == "Two cubes."
