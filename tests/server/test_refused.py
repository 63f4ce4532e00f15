"""Requests that cannot be answered get a 4xx and one sentence in OpenAI's format; the server stays up."""

from __future__ import annotations

import base64
import http.client
import io
import json
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from PIL import Image
from schemathesis import GenerationMode
from serving import ASK, PATIENCE, Served, get, noisy, served

from llava_cot.errors import ModelFailure
from llava_cot.models.scripted import ScriptedModel
from llava_cot.server import auth
from llava_cot.server.api import make_app
from llava_cot.server.service import ServerSettings


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(ScriptedModel(noisy)) as running:
        yield running


def post(server: Served, body: Any, **more: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | more.pop("headers", {})
    return httpx.post(
        f"{server.url}/chat/completions", content=content, headers=headers, timeout=PATIENCE, **more
    )


def refusal(reply: httpx.Response) -> str:
    """The sentence with which a request was refused; the server is still up."""
    assert 400 <= reply.status_code < 500, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    sentence: str = error["message"]
    assert sentence and "\n" not in sentence and "Traceback" not in sentence and len(sentence) < 500
    assert get(reply.url.copy_with(path="/health")).status_code == 200
    return sentence


def ask(**settings: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": ASK} | settings


def with_part(part: dict[str, Any]) -> dict[str, Any]:
    return ask(messages=[{"role": "user", "content": [part, {"type": "text", "text": "How many?"}]}])


def with_picture(url: str, **more: Any) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": url} | more}
    return ask(messages=[{"role": "user", "content": [part, {"type": "text", "text": "How many?"}]}])


def said(*roles: str) -> dict[str, Any]:
    return ask(messages=[{"role": role, "content": "How many?"} for role in roles])


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "the body: this field is required"),
        (b"{", 400, "the body is not JSON"),
        (b"[" * 100_000, 400, "body"),
        (b'{"model": ' + b"9" * 5000 + b"}", 400, "body"),
        (b"\xff\xfe", 400, "body"),
        ([], 400, "the body: give an object"),
        ({}, 400, "model: this field is required"),
        (ask(model="gpt-4o"), 404, "there is no model 'gpt-4o' here"),
        (ask(model="scripted:magic-4"), 404, "there is no model"),
        (ask(model="scripted:stage-beam-0"), 404, "there is no model"),
        (ask(model="scripted:stage-beam-999999"), 400, "999999 candidates; give at most 256"),
        (ask(model="\ud800"), 404, "there is no model"),
        (ask(messages=[]), 400, "messages: give a list of at least 1"),
        (ask(messages="hello"), 400, "messages: give a list"),
        (ask(messages=[1]), 400, "messages.0: give an object"),
        (ask(messages=[{"role": "user"}]), 400, "messages.0.content: this field is required"),
        (
            ask(messages=[{"role": "tool", "content": "x"}]),
            400,
            "messages.0.role: give 'system', 'developer', ",
        ),
        (
            with_part({"type": "video"}),
            400,
            "messages.0.content.0.type: 'video' is not supported; send 'text' or 'image_url'",
        ),
        (with_part({"type": "input_image"}), 400, "'input_image' is not supported"),
        (with_part({}), 400, "messages.0.content.0.type: this field is required"),
        (
            with_part({"type": 3}),
            400,
            "messages.0.content.0.type: '3' is not supported; send 'text' or 'image",
        ),
        (
            with_part({"type": "image_url", "image_url": 3}),
            400,
            ".image_url: give the URL, by itself or as the",
        ),
        (with_part({"type": "image_url"}), 400, "messages.0.content.0.image_url: this field is required"),
        (with_part({"type": "image_url", "image_url": {}}), 400, "messages.0.content.0.image_url.url: "),
        (with_part({"type": "image_url", "image_url": "data:image/png;base64,"}), 400, "it is empty"),
        (with_part({"type": "image_url", "image_url": "x.png"}), 400, "not a URL"),
        (
            with_part({"type": "text", "text": "x", "txt": 1}),
            400,
            "messages.0.content.0.txt: there is no such",
        ),
        (
            with_picture("x", detayl="low"),
            400,
            "messages.0.content.0.image_url.detayl: there is no such field",
        ),
        (
            ask(messages=[{"role": "user", "content": 3}]),
            400,
            "messages.0.content: give a text, or a list of parts",
        ),
        (ask(messages=[{"role": "user", "content": "a\ufdd1"}]), 400, "U+FDD1"),
        (ask(temperatur_=0), 400, "temperatur_: there is no such field; did you mean temperature? drop it"),
        (ask(max_token=5), 400, "max_token: there is no such field; did you mean max_tokens? drop it"),
        (ask(frobnicate=1), 400, "frobnicate: there is no such field; drop it"),
        (
            ask(search={"method_": "single"}),
            400,
            "search.method_: there is no such field; did you mean method?",
        ),
        (
            ask(stream_options={"include_usge": True}),
            400,
            "stream_options.include_usge: there is no such field",
        ),
        (ask(chat_template_kwargs={"enable_thinking": False}), 400, "chat_template_kwargs: there is no such"),
        (ask(reasoning_effort="most"), 400, "reasoning_effort: "),
        (ask(messages=[{"role": "user", "content": "\ud800"}]), 400, "half of a surrogate pair"),
        (ask(messages=[{"role": "user", "content": " "}]), 400, "the question is empty"),
        (ask(messages=[{"role": "user", "content": "x" * 200_001}]), 400, "at most 200000"),
        (said("system"), 400, "send one user message"),
        (said("user", "assistant"), 400, "send one user message"),
        (said("user", "assistant", "user"), 400, "no earlier turns"),
        (ask(n=0), 400, "n: give at least 1"),
        (ask(n=17), 400, "n: give at most 16"),
        (ask(n="2"), 400, "n: give a whole number"),
        (ask(n=2.5), 400, "n: give a whole number"),
        (ask(temperature=-1), 400, "temperature: give at least 0"),
        (ask(temperature="hot"), 400, "temperature: give a number"),
        (ask(temperature=float("nan")), 400, "temperature: give a finite number"),
        (ask(top_p=-0.1), 400, "top_p: give at least 0"),
        (ask(top_p=2), 400, "top_p: give at most 1"),
        (ask(max_tokens=0), 400, "max_tokens: give at least 1"),
        (ask(seed=2**70), 400, "seed: give less than 9223372036854775808"),
        (ask(stream=1), 400, "stream: give true or false"),
        *(
            (
                ask(stop=stop),
                400,
                "stop: give a text, or a list of at most 4 texts; none of them may be empty",
            )
            for stop in (list("abcde"), "", [""], 3, {}, ["a", None])
        ),
        (ask(search=3), 400, "search: give an object"),
        (ask(search={"method": 3}), 400, "search.method: give a text"),
        (ask(search={"stages": "x"}), 400, "search.stages: give 'auto', 'trained' or 'prompted'"),
        (ask(tools=[{"type": "function"}]), 400, "tools is not supported"),
        (ask(response_format={"type": "json_object"}), 400, "response_format is not supported"),
        (ask(logprobs=True), 400, "logprobs is not supported"),
        (ask(search={"method": "magic"}), 400, "there is no method 'magic'"),
        (ask(search={"judge": "coin"}), 400, "there is no judge 'coin'"),
        (ask(search={"method": "single", "n": 2}), 400, "single takes one sample"),
        (ask(search={"method": "single", "n": 2}, stream=True), 400, "single takes one sample"),
        (ask(search={"method": "majority", "judge": "self"}), 400, "majority uses no judge"),
        (ask(search={"width": 2}), 400, "search.width: "),
        (ask(model="scripted:best-of-4", search={"n": 2}), 400, "drop method and n from search"),
        (ask(model="scripted:best-of-4@self", search={"judge": "logits"}), 400, "drop one of them"),
        (with_picture("/etc/passwd"), 400, "a picture's url is not a URL; send a data URL"),
        (with_picture("file:///etc/passwd"), 400, "a picture's url is not a URL"),
        (with_picture("http://example.org/a.png"), 400, "loads no pictures from the web"),
        (with_picture("data:image/png;base64"), 400, "a comma must follow"),
        (with_picture("data:image/png;base64,@@@"), 400, "its base64 is damaged"),
        (with_picture("data:image/png;base64,"), 400, "it is empty"),
    ],
)
def test_a_malformed_request(server: Served, body: Any, status: int, words: str) -> None:
    reply = post(server, body)
    sentence = refusal(reply)
    assert words in sentence and "0.0" not in sentence
    assert reply.status_code == status
    assert not re.search("should|constrained|valid|discriminator|[Ff]ield required|extract", sentence)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (ask(search={"method": "magic"}), "search.method"),
        (ask(search={"judge": "coin"}), "search.judge"),
        (ask(search={"method": "single", "n": 2}), "search.n"),
        (ask(stop=[""]), "stop"),
        (with_part({}), "messages.0.content.0.type"),
        (with_part({"type": "image_url", "image_url": {}}), "messages.0.content.0.image_url.url"),
        (ask(model="scripted:single", search={"judge": "self"}), "search.judge"),
        (ask(model="scripted:single", search={"budget": 9}), "search.budget"),
        (ask(search={"method": "prism"}), "search.method"),
        (ask(model="scripted:prism"), "model"),
        (ask(model="scripted:best-of-2@reward"), "model"),
        (ask(model="scripted:best-of-2", search={"judge": "reward"}), "search.judge"),
        (ask(top_k=-1), "top_k"),
        (ask(repetition_penalty=0), "repetition_penalty"),
    ],
)
def test_the_field_at_fault_is_named(server: Served, body: Any, param: str) -> None:
    reply = post(server, body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param), reply.text


@pytest.mark.parametrize("name", ["single@self", "single-3", "best-of-2@coin", "single-within-5"])
def test_a_name_that_no_server_can_run_is_unknown(server: Served, name: str) -> None:
    assert post(server, ask(model=f"scripted:{name}")).status_code == 404
    assert get(f"{server.url}/models/scripted:{name}").status_code == 404


@pytest.mark.parametrize(
    "harmless",
    [
        {"user": "me", "metadata": {}, "store": False, "frobnicate": None, "best_of": 1},
        {"tools": [], "tool_choice": "none", "logprobs": False, "response_format": {"type": "text"}},
        {"presence_penalty": 0.0, "frequency_penalty": 0, "logit_bias": None, "n": None, "stop": None},
        {"stream_options": None, "temperature": 0, "top_p": 1, "max_tokens": 10**9},
    ],
)
def test_fields_without_effect_are_accepted(server: Served, harmless: dict[str, Any]) -> None:
    assert post(server, ask(**harmless)).status_code == 200


def test_pictures_stay_where_they_are_among_the_texts() -> None:
    model = ScriptedModel(noisy)
    urls = [
        f"data:image/png;base64,{base64.b64encode(file(Image.new('RGB', (8, n)))).decode()}" for n in (3, 5)
    ]
    one, two = ({"type": "image_url", "image_url": url} for url in urls)

    def texts(*words: str) -> list[dict[str, Any]]:
        return [{"type": "text", "text": word} for word in words]

    which, a, b = texts("Which?", "A. ", "B. ")
    system = {"role": "system", "content": "Be brief."}
    cases: list[tuple[list[Any], list[Any]]] = [
        ([{"role": "user", "content": [which, a, one, b, two]}], ["Which?\nA. ", 3, "B. ", 5]),
        ([system, {"role": "user", "content": [one, two, which]}], [3, 5, "Be brief.\nWhich?"]),
        ([system, {"role": "user", "content": [which, one]}], ["Be brief.\nWhich?", 3]),
        (
            [{"role": "system", "content": [one]}, {"role": "user", "content": [which, two]}],
            [3, "\nWhich?", 5],
        ),
    ]
    with served(model) as running:
        for messages, parts in cases:
            assert post(running, ask(model="scripted:single", messages=messages)).status_code == 200
            found = model.calls[-1].prompt.messages[0].parts
            assert [part if isinstance(part, str) else part.pil.height for part in found] == parts


def test_unknown_addresses_and_http_methods(server: Served) -> None:
    assert "nothing at this address" in refusal(get(f"{server.root}/v2/nothing"))
    assert "method is not allowed" in refusal(get(f"{server.url}/chat/completions"))
    assert "body" in refusal(post(server, ask(), headers={"Content-Type": "text/plain"}))


def test_the_official_client_raises_its_own_errors(server: Served) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        server.ask(model="gpt-4o")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="there is no method 'magic'"):
        server.ask(extra_body={"search": {"method": "magic"}}, stream=True)


def test_a_body_may_be_neither_too_large_nor_too_slow(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "MAX_BODY_BYTES", 1000)
    monkeypatch.setattr(auth, "MAX_BODY_SECONDS", 0.3)
    large = ask(user="x" * 2000)
    assert post(server, large).status_code == 413

    def parts(body: bytes) -> Iterator[bytes]:
        yield body[:900]
        yield body[900:]

    reply = httpx.post(
        f"{server.url}/chat/completions",
        content=parts(json.dumps(large).encode()),
        headers={"Content-Type": "application/json"},
        timeout=PATIENCE,
    )
    assert reply.status_code == 413 and "more than the" in refusal(reply)

    slow = http.client.HTTPConnection(*server.root.removeprefix("http://").split(":"), timeout=PATIENCE)
    slow.putrequest("POST", "/v1/chat/completions")
    slow.putheader("Content-Type", "application/json")
    slow.putheader("Content-Length", "100")
    slow.endheaders(b"{")
    answered = slow.getresponse()
    assert answered.status == 408
    assert "did not arrive within" in json.loads(answered.read())["error"]["message"]
    slow.close()


# Pictures


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def file(image: Image.Image, form: str = "PNG", **more: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, form, **more)
    return data.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kB that claims so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1_000_000))
        + chunk(b"IEND", b"")
    )


PLAIN = Image.effect_noise((60, 40), 50).convert("RGB")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (file(PLAIN)[:-500], "damaged or cut off"),
        (file(PLAIN, "JPEG")[:200], "damaged"),
        (bomb(30_000, 30_000), "megapixels allowed"),
        (bomb(2**31 - 1, 2**31 - 1), "megapixels allowed"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is an SVG drawing"),
        (b"<!DOCTYPE html><html></html>", "it is a web page"),
        (b"%PDF-1.7", "it is a PDF document"),
        (b"\0" * 1000, "in none of the formats"),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 100, "damaged"),
    ],
)
def test_a_hostile_picture_is_refused(server: Served, data: bytes, words: str) -> None:
    sentence = refusal(post(server, with_picture(data_url(data))))
    assert words in sentence and "the image number 1" in sentence


@pytest.mark.parametrize(
    "data",
    [
        file(Image.new("RGB", (1, 1))),
        file(Image.new("RGB", (50_000, 3))),
        file(PLAIN, "GIF", save_all=True, append_images=[PLAIN.rotate(90)] * 3),
        file(PLAIN.convert("CMYK"), "JPEG"),
        file(Image.new("I;16", (20, 20), 40_000)),
        file(PLAIN.convert("P")),
    ],
    ids=["1 pixel", "50,000 wide", "animated", "CMYK", "16 bit", "palette"],
)
def test_an_odd_picture_is_answered(server: Served, data: bytes) -> None:
    assert post(server, with_picture(data_url(data))).status_code == 200


def test_a_failure_of_the_model_is_no_fault_of_the_request() -> None:
    def fail(prompt: Any, rng: Any) -> str:
        raise ModelFailure("the device ran out of memory; use a smaller cache_mb")

    with served(ScriptedModel(fail), ServerSettings()) as server:
        reply = post(server, ask())
    assert reply.status_code == 503
    error = reply.json()["error"]
    assert error["message"] == "the device ran out of memory; use a smaller cache_mb"
    assert (error["type"], error["code"]) == ("server_error", "model_failed")


def test_pictures_together_have_a_limit(server: Served) -> None:
    large = {"type": "image_url", "image_url": {"url": data_url(file(Image.new("L", (6000, 6000))))}}
    text = {"type": "text", "text": "How many?"}
    assert "megapixels allowed" in refusal(
        post(server, ask(messages=[{"role": "user", "content": [large, large, text]}]))
    )
    small = {"type": "image_url", "image_url": {"url": data_url(file(Image.new("L", (1, 1))))}}
    sentence = refusal(post(server, ask(messages=[{"role": "user", "content": [small] * 17 + [text]}])))
    assert "17 pictures; send at most 16" in sentence


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/a.png",
        "http://localhost/a.png",
        "http://[::1]/a.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/a.png",
        "http://2130706433/a.png",
        "HTTP://0/a.png",
    ],
)
def test_no_picture_is_loaded_from_a_private_address(url: str) -> None:
    with served(ScriptedModel(noisy), ServerSettings(allow_urls=True)) as server:
        assert "private or reserved network" in refusal(post(server, with_picture(url)))


def test_a_picture_of_the_web_is_loaded_where_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the limits, and from public hosts alone: what that means is tested with the download."""
    asked: list[Any] = []

    def download(url: str, **limits: Any) -> bytes:
        asked.append((url, limits))
        return file(PLAIN)

    monkeypatch.setattr("llava_cot.core.download.download", download)
    model = ScriptedModel(noisy)
    with served(model, ServerSettings(allow_urls=True)) as server:
        assert post(server, with_picture("https://example.org/a.png?key=1")).status_code == 200
    url, limits = asked[0]
    assert url == "https://example.org/a.png?key=1"
    assert limits == {"max_bytes": 20_000_000, "max_seconds": 30.0, "allow_private": False}
    [image] = model.calls[0].prompt.messages[0].images
    assert image.name == "https://example.org/a.png" and image.pil.size == PLAIN.size


# Cases generated from the server's OpenAPI description.

ANY_HOST = ServerSettings(allowed_hosts=("*",))
described = schemathesis.openapi.from_asgi("/openapi.json", make_app(ScriptedModel(noisy), ANY_HOST))
described.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])


@described.parametrize()
@settings(max_examples=60, suppress_health_check=list(HealthCheck), derandomize=True)
def test_the_server_is_as_it_describes_itself(case: schemathesis.Case) -> None:
    """No 5xx; statuses, types and bodies as described; what the description forbids is refused."""
    checks = schemathesis.checks
    case.call_and_validate(
        checks=[
            checks.not_a_server_error,
            checks.status_code_conformance,
            checks.content_type_conformance,
            checks.response_schema_conformance,
            checks.negative_data_rejection,
        ]
    )
