"""Many clients at once: the request queue, its limit, the time limit, and clients that disconnect."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx
import openai
import pytest
from serving import ASK, PATIENCE, Patient, Served, get, served, until
from tiny import make

from llava_cot.models.local.model import LocalModel
from llava_cot.models.registry import open_model
from llava_cot.server.api_errors import ApiError
from llava_cot.server.service import RequestQueue, ServerSettings

BODY = {"model": "scripted:single", "messages": ASK}


def outcomes(server: Served, outcome: str) -> float:
    return server.counted(f'llava_cot_questions_total{{outcome="{outcome}"}}')


async def test_requests_run_in_order_and_a_full_queue_refuses() -> None:
    queue, done = RequestQueue(1, 2), []

    async def one(number: int) -> None:
        async with queue.slot():
            done.append(number)
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(one(number)) for number in range(4)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert done == [0, 1, 2]
    assert isinstance(results[3], ApiError) and results[3].status_code == 429
    assert (queue.running, queue.waiting) == (0, 0)


async def test_a_cancelled_request_frees_its_place() -> None:
    queue = RequestQueue(1, 1)

    async def wait() -> None:
        async with queue.slot():
            pass

    async with queue.slot():
        first = asyncio.create_task(wait())
        await asyncio.sleep(0)
        with pytest.raises(ApiError):
            await wait()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert (queue.running, queue.waiting) == (1, 0)
        second = asyncio.create_task(wait())
        await asyncio.sleep(0)
        assert (queue.running, queue.waiting) == (1, 1)
    await second
    assert (queue.running, queue.waiting) == (0, 0)


def test_many_clients_are_all_answered() -> None:
    model = Patient()
    model.go.set()
    with (
        served(model, ServerSettings(max_running=8, max_waiting=100)) as server,
        ThreadPoolExecutor(40) as pool,
    ):
        replies = list(pool.map(lambda seed: server.ask(seed=seed), range(40)))
    assert len({reply.id for reply in replies}) == 40
    assert all(reply.choices[0].message.content.isdigit() for reply in replies)


@pytest.mark.parametrize("stream", [False, True])
def test_a_full_queue_answers_429_with_retry_after(stream: bool) -> None:
    model = Patient()
    settings = ServerSettings(max_running=1, max_waiting=1)
    with served(model, settings) as server, ThreadPoolExecutor(2) as pool:
        first = pool.submit(server.ask)
        until(lambda: model.waiting == 1)
        second = pool.submit(server.ask)
        until(lambda: server.counted("llava_cot_waiting") == 1)
        reply = httpx.post(
            f"{server.url}/chat/completions", json={**BODY, "stream": stream}, timeout=PATIENCE
        )
        assert reply.status_code == 429
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        error = reply.json()["error"]
        assert (error["code"], error["type"]) == ("queue_full", "rate_limit_error")
        assert get(f"{server.root}/health").status_code == 200
        model.go.set()
        assert first.result().choices and second.result().choices
        assert outcomes(server, "full") == 1


def test_the_official_client_retries_when_there_is_room() -> None:
    model = Patient()
    with served(model, ServerSettings(max_running=1, max_waiting=0)) as server, ThreadPoolExecutor(2) as pool:
        first = pool.submit(server.ask)
        until(lambda: model.waiting == 1)
        with server.client(max_retries=3) as client:
            again = pool.submit(lambda: client.chat.completions.create(model="scripted:single", messages=ASK))
            until(lambda: outcomes(server, "full") == 1)
            model.go.set()
            assert first.result().choices and again.result().choices


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_takes_too_long_is_stopped(stream: bool) -> None:
    model = Patient()
    with served(model, ServerSettings(time_limit=0.3)) as server:
        with pytest.raises(openai.InternalServerError) as caught:
            server.ask(stream=stream)
        assert caught.value.status_code == 504
        assert "no answer within 0.3 seconds" in caught.value.message
        assert caught.value.response.headers["x-should-retry"] == "false"
        until(lambda: model.waiting == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_leaves_the_line(stream: bool) -> None:
    model = Patient()
    with served(model, ServerSettings(max_running=1, max_waiting=1)) as server:
        for gone in (1, 2, 3):
            with server.left({**BODY, "stream": stream}):
                until(lambda: model.waiting == 1)
            until(lambda: model.waiting == 0)
            until(lambda: outcomes(server, "gone") >= gone)  # noqa: B023
        with server.left(BODY):
            until(lambda: model.waiting == 1)
            with server.left({**BODY, "stream": stream}):
                until(lambda: server.counted("llava_cot_waiting") == 1)
            until(lambda: server.counted("llava_cot_waiting") == 0)
        model.go.set()
        assert server.ask().choices


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalModel]:
    """A real engine with random weights, which write on and on; each step takes a while."""
    model = open_model(make("llava", tmp_path_factory.mktemp("llava")), device="cpu")
    step = model._engine._network.step

    def slow(*arguments: Any) -> Any:
        time.sleep(0.02)
        return step(*arguments)

    model._engine._network.step = slow  # type: ignore[method-assign]
    with closing(model):
        yield model


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("search", [{"method": "single"}, {"method": "best-of-n", "n": 64}])
def test_when_a_client_goes_away_the_engine_drops_its_rows(
    local: LocalModel, stream: bool, search: dict[str, Any]
) -> None:
    body = {"model": local.name, "messages": ASK, "search": search, "stream": stream, "raw": True}
    engine = local._engine
    with served(local) as server:
        before = engine.stats.decode_steps
        with server.left(body | {"seed": 1}):
            until(lambda: engine.stats.decode_steps >= before + 5)
            assert engine.busy
        until(lambda: not engine.busy)
        assert engine.stats.decode_steps < before + 100, "the context has room for 500"
        until(lambda: outcomes(server, "gone") == 1)
        assert outcomes(server, "answered") == 0
        assert server.ask(model=f"{local.name}:single", max_tokens=4).choices
