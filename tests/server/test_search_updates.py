"""A stream shows its searches, drawn as HTML, if the request wants that."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playing import new_search
from serving import ASK, PATIENCE, Patient, Served, get, noisy, served, until

from llava_cot.core.trace import Trace
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.search import Began, StageStarted
from llava_cot.server.chat_reply import ReplyStyle
from llava_cot.server.search_updates import Draw, SearchDrawer
from llava_cot.server.service import RequestQueue
from llava_cot.view.html import trace_fragment

BODY = {
    "model": "scripted:stage-beam-2",
    "messages": ASK,
    "seed": 1,
    "stream": True,
    "stream_options": {"include_search": True, "include_usage": True},
}


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(ScriptedModel(noisy)) as running:
        yield running


def chunks(server: Served, **fields: Any) -> list[dict[str, Any]]:
    reply = httpx.post(f"{server.url}/chat/completions", json=BODY | fields, timeout=PATIENCE)
    lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def updates(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    assert all(chunk["choices"] == [] for chunk in found if "search" in chunk)
    return [chunk["search"] for chunk in found if "search" in chunk]


def test_the_last_update_is_the_whole_search_and_names_its_trace(server: Served) -> None:
    found = chunks(server, n=2, include_trace=True)
    assert "usage" in found[-1]
    last = {update["index"]: update for update in updates(found) if "trace" in update}
    recorded = {
        choice["index"]: choice["trace"]
        for chunk in found
        for choice in chunk["choices"]
        if "trace" in choice
    }
    assert set(last) == {0, 1} == set(recorded)
    for index, update in last.items():
        trace = Trace.model_validate_json(get(f"{server.root}/traces/{update['trace']}.json").content)
        assert json.loads(trace.model_dump_json()) == recorded[index]
        assert update["html"] == trace_fragment(trace, f"choice-{index}", with_question=False)
        assert "stage" not in update
    assert last[0]["trace"] != last[1]["trace"]


def test_a_stream_is_the_same_without_updates(server: Served) -> None:
    def content(found: list[dict[str, Any]]) -> list[Any]:
        return [chunk["choices"] for chunk in found if "search" not in chunk]

    plain = chunks(server, stream_options={"include_usage": True})
    assert not updates(plain)
    assert content(plain) == content(chunks(server))


def test_the_official_client_reads_such_a_stream(server: Served) -> None:
    found = server.ask(stream=True, extra_body={"stream_options": {"include_search": True}})
    assert found[-1].search["trace"]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in found if chunk.choices).isdigit()


def test_the_search_is_shown_while_it_runs_and_leaving_stops_it() -> None:
    model = Patient()
    with (
        served(model) as server,
        httpx.stream("POST", f"{server.url}/chat/completions", json=BODY, timeout=PATIENCE) as reply,
    ):
        lines = reply.iter_lines()  # as long as it is there, the connection stays open
        first = json.loads(next(lines).removeprefix("data: "))["search"]
        assert first["stage"] == "summary" and "<article" in first["html"] and "trace" not in first
        until(lambda: model.waiting > 0)
        reply.close()
        until(lambda: model.waiting == 0)
        until(lambda: server.counted('llava_cot_questions_total{outcome="gone"}') == 1)


def test_a_refused_request_gets_its_status(server: Served) -> None:
    reply = httpx.post(f"{server.url}/chat/completions", json=BODY | {"model": "no"}, timeout=PATIENCE)
    assert reply.status_code == 404


async def test_one_drawing_is_pending_at_most_and_many_streams_draw_less_often() -> None:
    drawn: list[Draw] = []
    queue = RequestQueue(64, 0)
    queue.running = 1
    drawer = SearchDrawer(0, ReplyStyle("m", False, False, ()), queue, drawn.append)
    drawer(Began(new_search()))
    for number in range(100):
        drawer(StageStarted("caption", number))
        await asyncio.sleep(0)
    assert len(drawn) == 1
    queue.running = 10_000
    began = time.perf_counter()
    drawing = asyncio.create_task(drawn.pop()())
    await asyncio.sleep(0)
    drawer(StageStarted("caption", 0))  # while it is drawn
    chunk = await drawing
    took = time.perf_counter() - began
    assert chunk.search is not None and chunk.search.stage == "reasoning"
    drawer(StageStarted("caption", 0))
    await asyncio.sleep(min(0.2, 1000 * took))
    assert drawn == []
