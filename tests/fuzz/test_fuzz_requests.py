"""Fuzzers of pictures, bodies of requests, replies of servers, and a model's words."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import closing

import httpx
import pytest
from endpoint_double import Double
from fuzzing import WORDS, fuzz, mutate_bytes, mutate_document
from PIL import Image, ImageDraw
from playing import SEARCHES
from serving import noisy

from llava_cot import ask_sync
from llava_cot.core.images import ImageLimits, load_image
from llava_cot.errors import ImageError, ModelError, RequestError
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.endpoint import http
from llava_cot.models.endpoint.client import EndpointModel
from llava_cot.models.endpoint.config import Provider
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.resources import Resources
from llava_cot.server.api import make_app
from llava_cot.server.service import ServerSettings
from llava_cot.view.html import trace_page

QUESTION = Prompt.of("How many?")


def scored(prompt: Prompt, options: Sequence[str]) -> list[float]:
    return [-1.0] * len(options)


def pictures() -> list[bytes]:
    drawn = Image.new("RGB", (40, 30), "white")
    ImageDraw.Draw(drawn).ellipse((5, 5, 30, 25), fill="red")
    made = []
    kinds = (("PNG", "RGB"), ("JPEG", "RGB"), ("GIF", "P"), ("WEBP", "RGB"), ("BMP", "RGB"), ("TIFF", "RGB"))
    for kind, mode in (*kinds, ("PNG", "LA"), ("PNG", "1"), ("PNG", "P"), ("JPEG", "CMYK")):
        file = io.BytesIO()
        drawn.convert("L" if mode == "LA" else "RGB").convert(mode).save(file, kind)
        made.append(file.getvalue())
    return made


def test_pictures() -> None:
    good = pictures()

    def use(data: bytes) -> None:
        image = load_image(data, limits=ImageLimits(max_pixels=4_000_000))
        assert image.pil.mode == "RGB" and image.pil.width * image.pil.height <= 4_000_000
        assert len(image.sha256) == 64

    def make(rng: random.Random) -> bytes:
        return mutate_bytes(rng, rng.choice(good), good)

    fuzz("pictures", 0.1, make, use, refusals=(ImageError,))


def test_bodies() -> None:
    url = "data:image/png;base64," + base64.b64encode(pictures()[0]).decode()
    parts = [{"type": "text", "text": "How many?"}, {"type": "image_url", "image_url": {"url": url}}]
    good = [
        {"model": "scripted", "messages": [{"role": "user", "content": "How many?"}]},
        {
            "model": "scripted:stage-beam-2@self",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}],
            "n": 1,
            "temperature": 0.5,
            "top_p": 0.9,
            "max_tokens": 50,
            "seed": 3,
            "stop": ["x"],
            "user": "me",
        },
        {
            "model": "scripted",
            "messages": [{"role": "user", "content": parts}],
            "search": {"method": "majority", "n": 2, "budget": 500},
            "include_trace": True,
            "raw": True,
            "stream": True,
            "stream_options": {"include_usage": True, "include_search": True},
        },
    ]
    script = ScriptedModel(noisy, scored)
    app = make_app(script, ServerSettings(max_running=4), Resources())
    loop = asyncio.new_event_loop()
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")

    async def post(data: bytes) -> httpx.Response:
        return await client.post(
            "/v1/chat/completions", content=data, headers={"Content-Type": "application/json"}
        )

    def use(data: bytes) -> None:
        reply = loop.run_until_complete(post(data))
        if reply.status_code != 200:
            assert 400 <= reply.status_code < 500, reply.text
            message = reply.json()["error"]["message"]
            assert message and "\n" not in message and len(message) < 3000, message

    def make(rng: random.Random) -> bytes:
        return mutate_document(rng, rng.choice(good))

    try:
        fuzz("bodies", 0.1, make, use, refusals=())
    finally:
        loop.run_until_complete(client.aclose())
        loop.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    monkeypatch.setattr(http, "_FIRST_WAIT", 0.001)
    with Double(ScriptedModel(noisy, scored)) as running:
        yield running


def test_replies(server: Double) -> None:
    top = [{"token": "1", "logprob": -0.5, "bytes": [49]}, {"token": "2", "logprob": -2.5}]
    content = [{"token": "Two", "logprob": -0.5, "bytes": None, "top_logprobs": top}]
    choices = [
        {
            "index": i,
            "message": {"role": "assistant", "content": "Two."},
            "finish_reason": "stop",
            "logprobs": {"content": content},
            "stop_reason": None,
        }
        for i in (0, 1)
    ]
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    whole = {"id": "x", "object": "chat.completion", "choices": choices, "usage": usage}
    error = {"error": {"message": "You exceeded it", "type": "invalid", "param": "seed", "code": 429}}
    events = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in ("Two", " are left.")]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events.append({"choices": [], "usage": usage})
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
    with closing(EndpointModel(Provider(url=server.url), None, {}, attempts=1)) as model:
        loop = asyncio.new_event_loop()

        def use(data: bytes) -> None:
            kind, reply = data[0], data[1:]
            server.lie = lambda _: reply
            if kind == 2:
                scores = loop.run_until_complete(model.choose(QUESTION, ("1", "2")))
                assert len(scores) == 2 and all(score <= 0.1 for score in scores)
                return
            shown: list[str] = []
            sampling = model.sample(QUESTION, 2 - kind, Sampling(), shown.append if kind else None)
            for sample in loop.run_until_complete(sampling):
                json.dumps(vars(sample)).encode()
                sample.text.encode()
                assert 0 <= sample.completion_tokens <= 10**9

        def make(rng: random.Random) -> bytes:
            kind = rng.choice((0, 0, 1, 1, 2))
            if kind == 1:
                lines = [b"data: " + mutate_document(rng, event) if rng.random() < 0.4 else
                         b"data: " + json.dumps(event).encode() for event in events]  # fmt: skip
                body = b"\n\n".join([*lines, b"data: [DONE]"]) + b"\n\n"
            else:
                found = whole | {"choices": choices[: 2 - kind // 2]}
                body = mutate_document(rng, error if rng.random() < 0.1 else found)
            made = head + b"\r\n" + body
            return bytes([kind]) + (mutate_bytes(rng, made) if rng.random() < 0.2 else made)

        try:
            fuzz("replies", 0.1, make, use, refusals=(ModelError,))
        finally:
            server.lie = None
            loop.close()


def test_words() -> None:
    """What a model writes, answers and judgments, gives a result with every method."""
    answer = noisy(QUESTION, random.Random(0)).encode()
    good = (
        answer,
        b"Since it is better, I choose response 2.",
        b"It holds. Verdict: correct.",
        b"B",
        b"12.5 cm",
    )
    searches = [(method, judge) for method, judge in SEARCHES if judge in (None, "self", "verifier", "rules")]

    def use(data: bytes) -> None:
        rng = random.Random(data[0])
        texts = [text.decode("utf-8", "replace") for text in data[1:].split(b"\x01\x02")]
        model = ScriptedModel(lambda prompt, _: rng.choice(texts), scored)
        method, judge = searches[data[0] % len(searches)]
        text = "How many?\nA. 1\nB. 2" if data[0] % 2 else "How many cubes?"
        try:
            sampling = Sampling(max_tokens=20)
            trace = ask_sync(model, None, text, method=method, judge=judge, n=2, sampling=sampling)
        except RequestError:
            return
        trace_page(trace).encode()
        trace.model_dump_json().encode()

    def make(rng: random.Random) -> bytes:
        texts = [mutate_bytes(rng, rng.choice(good), good) for _ in range(4)]
        texts.append(rng.choice(WORDS).encode("utf-8", "replace") * rng.choice((1, 30)))
        return bytes([rng.randrange(256)]) + b"\x01\x02".join(texts)

    fuzz("words", 0.14, make, use)
