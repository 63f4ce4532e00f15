"""One model behind several real HTTP servers, of different speeds, that fail, die and come back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from endpoint_double import Double, configure
from PIL import Image

from llava_cot import ask, open_model
from llava_cot.core.question import Question, load_image
from llava_cot.errors import ModelError, ModelFailure
from llava_cot.models.base import Continuation, Prompt, Sampling
from llava_cot.models.endpoint import balancing, capabilities, http
from llava_cot.models.endpoint.balancing import BalancedModel
from llava_cot.models.registry import open_endpoint
from llava_cot.models.scripted import ScriptedModel

_PARTS = ("<SUMMARY> {} </SUMMARY>", " <CAPTION> {} </CAPTION>", " <REASONING> {} </REASONING>")


def script(prompt: Prompt, rng: random.Random) -> str:
    text = prompt.messages[-1].text
    if "Verdict" in text:
        return "It follows. Verdict: correct."
    if "Response 1" in text:
        return f"Since it is better, I choose response {rng.choice((1, 2))}."
    done = prompt.prefix.count("</")
    parts = [part.format(f"Seen {rng.randrange(1000)} in {text}.") for part in _PARTS[done:]]
    return "".join(parts) + f" <CONCLUSION> {rng.randrange(10)} </CONCLUSION>"


def choose(prompt: Prompt, options: Any) -> list[float]:
    return [-float(len(prompt.messages[-1].text) % 7), -2.0]


@pytest.fixture(autouse=True)
def short_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balancing, "_FIRST_REST", 0.02)


def double(**kinds: Any) -> Double:
    return Double(ScriptedModel(script, choose), **kinds)


@contextmanager
def running(*servers: Double) -> Iterator[str]:
    """The address of them all."""
    with ExitStack() as stack:
        yield ",".join(stack.enter_context(server).url for server in servers)


@contextmanager
def opened(spec: str, *servers: Double) -> Iterator[BalancedModel]:
    with closing(open_model(spec)) as model:
        assert isinstance(model, BalancedModel)
        for server in servers:
            server.bodies.clear()
            server.usages.clear()
        yield model


def prompt(number: int) -> Prompt:
    return Prompt.of(f"How many are in box {number}?")


async def alone(count: int, sampling: Sampling) -> list[list[Continuation]]:
    """What one server says to the prompts."""
    server = double()
    with running(server) as spec, closing(open_model(spec)) as model:
        return list(await asyncio.gather(*(model.sample(prompt(i), 2, sampling) for i in range(count))))


async def test_several_servers_give_the_traces_of_one() -> None:
    pictures = [load_image(Image.new("RGB", (8, 6), (20 * i, 30, 30))) for i in range(6)]
    questions = [Question(f"How many {i}?", (picture,)) for i, picture in enumerate(pictures)]
    kinds: list[dict[str, Any]] = [
        {"method": "stage-beam", "n": 3},
        {"method": "stage-beam", "n": 2, "judge": "logits"},
        {"method": "majority", "n": 4},
    ]

    async def traces(model: Any) -> list[Any]:
        calls = (
            ask(model, None, q, sampling=Sampling(seed=i), **kind)
            for i, q in enumerate(questions)
            for kind in kinds
        )
        return [
            trace.model_copy(update={"usage": trace.usage.model_copy(update={"seconds": 0.0})})
            for trace in await asyncio.gather(*calls)
        ]

    servers = [double() for _ in range(3)]
    with running(*servers) as spec, opened(spec, *servers) as model:
        several = await traces(model)
        assert all(server.usages for server in servers)
        with closing(open_model(servers[0].url)) as one:
            assert several == await traces(one)


async def test_the_faster_server_gets_more_in_proportion(tmp_path: Path) -> None:
    fast, slow = double(), double()
    with running(fast, slow) as spec:
        urls = spec.split(",")
        configure(tmp_path, f"providers:\n  lab: {{url: {urls}, in_flight: 2}}\n")
        with opened("lab", fast, slow) as model:
            fast.delay, slow.delay = 0.03, 0.12
            await asyncio.gather(*(model.sample(prompt(i), 1, Sampling()) for i in range(16)))
            fast.usages.clear(), slow.usages.clear()
            slots = asyncio.Semaphore(16)

            async def one(i: int) -> None:
                async with slots:
                    await model.sample(prompt(i), 1, Sampling())

            await asyncio.gather(*(one(i) for i in range(150)))
            assert len(fast.usages) + len(slow.usages) == 150
            assert 2.5 < len(fast.usages) / len(slow.usages) < 6


async def test_a_server_that_dies_and_comes_back_loses_nothing() -> None:
    servers = [double(), double()]
    expected = await alone(200, Sampling())
    with running(*servers) as spec, opened(spec, *servers) as model:
        for server in servers:
            server.delay = 0.05
        dying, other = servers
        slots = asyncio.Semaphore(16)

        async def one(i: int) -> list[Continuation]:
            async with slots:
                return await model.sample(prompt(i), 2, Sampling())

        asking = [asyncio.create_task(one(i)) for i in range(200)]
        while len(dying.usages) < 10:
            await asyncio.sleep(0.005)
        dying.delay, begun = 5.0, len(dying.bodies)
        while len(dying.bodies) < begun + 3:
            await asyncio.sleep(0.005)
        dying.die()
        dying.delay = 0.05
        before = len(other.usages)
        while len(other.usages) < before + 30:
            await asyncio.sleep(0.005)
        dying.come_back()
        answered, lost = len(dying.usages), len(dying.bodies) - len(dying.usages)
        assert 3 <= lost <= 16
        assert await asyncio.gather(*asking) == expected
        assert len(dying.usages) > answered  # it has its part again
        assert len(dying.usages) + len(other.usages) == 200  # nothing is answered twice
        # Nothing is requested twice but what was under way (a call may have been on its way back).
        assert 200 + 3 <= len(dying.bodies) + len(other.bodies) <= 200 + lost


async def test_a_server_that_hangs_is_left_after_one_time_limit(tmp_path: Path) -> None:
    servers = [double(), double()]
    with running(*servers) as spec:
        configure(tmp_path, f"providers:\n  lab: {{url: '{spec}', seconds: 1}}\n")
        with opened("lab", *servers) as model:
            servers[0].faults.extend(["slow"] * 8)
            servers[1].faults.extend(["slow"] * 0)
            async with asyncio.timeout(4):
                await asyncio.gather(*(model.sample(prompt(i), 1, Sampling()) for i in range(16)))
            assert len(servers[1].usages) == 16


@pytest.mark.parametrize("fault", ["429", "500", "503", "break", "cut", "garbage", "html", "401"])
async def test_a_call_that_fails_goes_to_another_at_once(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_FIRST_WAIT", 5.0)
    servers = [double(), double()]
    with running(*servers) as spec, opened(spec, *servers) as model:
        for server in servers:
            server.faults.append(fault)
            async with asyncio.timeout(3):
                assert await model.sample(prompt(0), 1, Sampling())
            server.faults.clear()


async def test_a_question_that_is_refused_is_tried_nowhere_else() -> None:
    servers = [double(), double()]
    with running(*servers) as spec, opened(spec, *servers) as model:
        for server in servers:
            server.faults.append("400")
        with pytest.raises(ModelError, match="made to fail with 400"):
            await model.sample(prompt(0), 1, Sampling())
        assert sum(len(server.bodies) for server in servers) == 1
        with pytest.raises(ModelError, match="request at least 1"):
            await model.sample(prompt(0), 0, Sampling())


class Fragile(Double):
    """Breaks the connection at box 7, and 70 to 79, however often that is requested."""

    async def _reply(self, fields: dict[str, Any]) -> dict[str, Any]:
        if "box 7" in str(fields["messages"]):
            await asyncio.sleep(0.03)  # in which others are answered
            raise ConnectionResetError
        return await super()._reply(fields)


def fragile() -> Fragile:
    return Fragile(ScriptedModel(script, choose))


async def test_a_question_that_no_server_survives_is_given_up_and_others_are_answered() -> None:
    servers = [fragile(), fragile()]
    with running(*servers) as spec, opened(spec, *servers) as model:
        calls = (model.sample(prompt(i), 1, Sampling()) for i in range(20))
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [i for i, one in enumerate(found) if isinstance(one, BaseException)] == [7]
        with pytest.raises(ModelFailure, match=r"12 attempts at 2 servers failed: http.*; http"):
            raise found[7]  # type: ignore[misc]


async def test_a_question_that_one_server_does_not_survive_is_tried_there_once() -> None:
    weak, strong = fragile(), double()
    with running(weak, strong) as spec, opened(spec, weak, strong) as model:
        weak.delay, strong.delay = 0.01, 0.15  # so that it is always the better choice
        stop = False

        async def others() -> None:
            number = 1000
            while not stop:
                number += 1
                await model.sample(prompt(number), 1, Sampling())

        asking = [asyncio.create_task(others()) for _ in range(4)]
        for number in range(70, 80):
            await model.sample(prompt(number), 1, Sampling())
        stop = True
        await asyncio.gather(*asking)
        assert 0 < sum("box 7" in str(body) for body in weak.bodies) <= 10
        assert len(weak.usages) > len(strong.usages)


async def test_when_all_are_gone_it_is_said_of_each_and_they_are_used_when_they_are_back() -> None:
    servers = [double(), double()]
    with running(*servers) as spec, opened(spec, *servers) as model:
        for server in servers:
            server.die()
        calls = (model.sample(prompt(i), 1, Sampling()) for i in range(20))
        failures = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(one, ModelFailure) and "\n" not in str(one) for one in failures)
        assert all(str(one).count(server.url) == 1 for one in failures for server in servers)
        assert any("none of the 2 servers answers: " in str(one) for one in failures)
        servers[1].come_back()
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await model.sample(prompt(0), 1, Sampling())
                    break
                except ModelFailure:
                    await asyncio.sleep(0.05)
        assert not servers[0].usages


async def test_an_answer_that_is_interrupted_resumes_elsewhere_and_nothing_is_streamed_twice() -> None:
    servers = [double(), double()]
    expected = await alone(1, Sampling())
    with running(*servers) as spec, opened(spec, *servers) as model:
        for server in servers:
            pieces: list[str] = []
            server.faults.append("cut")
            for _ in range(2):
                pieces.clear()
                [sample] = await model.sample(prompt(0), 1, Sampling(), pieces.append)
                assert "".join(pieces) == sample.text == expected[0][0].text
                assert len(pieces) > 3
        for server in servers:  # which then say something else
            server.model = ScriptedModel(lambda prompt, rng: f"Something else {rng.random()} each time.")
            server.faults.append("cut")
        await asyncio.sleep(0.1)
        servers[1].model = ScriptedModel(lambda prompt, rng: "And this is not it.")
        with pytest.raises(ModelFailure, match="another one gave a different answer"):
            await model.sample(prompt(0), 1, Sampling(), pieces.append)


async def test_calls_about_one_picture_go_to_one_server() -> None:
    servers = [double(), double(), double()]
    with running(*servers) as spec, opened(spec, *servers) as model:
        for server in servers:
            server.delay = 0.04
        pictures = [load_image(Image.new("RGB", (8, 6), (5 * i, 30, 30))) for i in range(30)]
        questions = [Question("How many are left?", (picture,)) for picture in pictures]
        await asyncio.gather(*(ask(model, None, question, n=3) for question in questions))
        at: dict[str, list[int]] = {}
        for number, server in enumerate(servers):
            assert len(server.bodies) > 0.1 * sum(len(s.bodies) for s in servers)
            for body in server.bodies:
                for part in body["messages"][0]["content"]:
                    if isinstance(part, dict) and part["type"] == "image_url":
                        at.setdefault(part["image_url"]["url"], []).append(number)
        assert len(at) == 30 and min(len(numbers) for numbers in at.values()) >= 8
        together = sum(numbers.count(max(set(numbers), key=numbers.count)) for numbers in at.values())
        assert together / sum(map(len, at.values())) > 0.7  # by chance, it would be less than half


async def test_a_call_that_is_cancelled_leaves_no_trace() -> None:
    servers = [double(), double()]
    with running(*servers) as spec, opened(spec, *servers) as model:
        for server in servers:
            server.delay = 5
        asking = asyncio.gather(*(model.sample(prompt(i), 1, Sampling()) for i in range(8)))
        while sum(server.at_once for server in servers) < 8:
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert [server.in_flight for server in model._balancer._servers] == [0, 0]


def test_what_is_used_is_what_each_can_do() -> None:
    servers = [double(), double(many=False, stops="silent", logprobs=False)]
    with running(*servers) as spec, opened(spec, *servers) as model:
        for one in model._models:
            found = one.capabilities
            assert (found.many, found.stops, found.top_logprobs) == (False, False, 0)
        words = model.describe()
        assert all(server.url in words for server in servers)
        assert words.count("one per request") == 2


def test_servers_that_would_answer_otherwise_are_refused() -> None:
    with running(double(), double(models=("other",))) as spec:
        with pytest.raises(
            ModelError, match=r"have different models, scripted and other; .*\(--model-name\)"
        ):
            open_model(spec)
        with closing(open_model(spec, model_name="both")) as model:
            assert model.name == "both"
    ways = r"in different ways \(continue, none\)"
    with running(double(), double(way="none")) as spec, pytest.raises(ModelError, match=ways):
        open_endpoint(spec)
    with running(double(), double()) as spec:
        with closing(open_model(spec)) as model:
            assert isinstance(model, BalancedModel)
            first, second = model._models
        capabilities.save(second.url, "scripted", replace(first.capabilities, seed=False))
        with pytest.raises(ModelError, match="takes a seed and the other does not"):
            open_model(spec)


def test_all_servers_must_be_there_at_the_start() -> None:
    gone = double()
    with running(gone) as address:
        pass
    with running(double()) as spec, pytest.raises(ModelFailure, match="cannot be reached"):
        open_model(f"{spec},{address}")


async def test_what_is_read_and_paid_is_counted_as_with_one(tmp_path: Path) -> None:
    configure(tmp_path, "prices:\n  scripted: {input: 2, output: 30}\n")
    servers = [double(), double()]
    with running(*servers) as spec, opened(spec, *servers) as model:
        trace = await ask(model, None, Question("How many?"), n=2, judge="logits")
        usages = [usage for server in servers for usage in server.usages]
        written = sum(usage["completion_tokens"] for usage in usages)
        assert trace.usage.usd is not None and trace.usage.usd > 30 * written / 2e6
        assert model.price(1_000_000, 0) == 2
        assert model.count_tokens(Prompt.of("never used")) == 0
        chosen = Prompt.of("Which?", prefix="I choose response")
        await model.choose(chosen, (" 1", " 2"))
        assert model.count_tokens(chosen) > 0
