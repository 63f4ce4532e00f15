"""The endpoint model against a real HTTP server with a scripted model behind it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from endpoint_double import Double, configure
from PIL import Image

from llava_cot import ask, ask_sync, open_model
from llava_cot.core.question import PLACE, Question, load_image
from llava_cot.core.trace import Trace
from llava_cot.errors import ModelError, RequestError
from llava_cot.models.base import Continuation, OnText, Prompt, Sampling, request_seed
from llava_cot.models.endpoint.client import EndpointModel
from llava_cot.models.endpoint.prompts import messages
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.search import Event, TextDelta

PICTURE = load_image(Image.new("RGB", (8, 6), (200, 30, 30)))
QUESTION = Question("How many are left?", (PICTURE,))
KEY = "sk-very-secret-0123456789"
WAYS = ("continue", "trailing", "none")

_HEADS = [f"<SUMMARY> Count {w}. </SUMMARY> <CAPTION> There are {w} cubes. " for w in ("them", "all", "some")]
ANSWERS = [
    f"{head}{seen} is red. </CAPTION> <REASONING> 3 minus {k} is {3 - k}. So {3 - k}. </REASONING> "
    f"<CONCLUSION> {3 - k} </CONCLUSION>"
    for head in _HEADS
    for seen in ("One", "None")
    for k in (1, 2)
]


def script(prompt: Prompt, rng: random.Random) -> str:
    text = prompt.messages[-1].text
    if "Verdict" in text:
        return "It follows. Verdict: correct."
    if "Response 1" in text:
        return f"Since it is better, I choose response {rng.choice((1, 2))}."
    fitting = [answer for answer in ANSWERS if answer.startswith(prompt.prefix)]
    return rng.choice(fitting)[len(prompt.prefix) :] if fitting else ""


def choose(prompt: Prompt, options: Any) -> list[float]:
    return [-float(len(prompt.messages[-1].text) % 7), -2.0]


class Seeded(ScriptedModel):
    """The scripted model in this process, with the seeds that a server is sent, and without token ids."""

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        seeded = replace(sampling, seed=request_seed(sampling.seed, 0))
        return [replace(c, tokens=()) for c in await super().sample(prompt, n, seeded, on_text)]


def scripted() -> ScriptedModel:
    return ScriptedModel(script, choose)


@contextmanager
def opened(server: Double, spec: str | None = None, name: str | None = None) -> Iterator[EndpointModel]:
    with closing(open_model(spec or server.url, model_name=name)) as model:
        assert isinstance(model, EndpointModel)
        server.bodies.clear()
        server.usages.clear()
        yield model


def plain(trace: Trace, *apart: str) -> dict[str, Any]:
    """A trace without the time it took, and whatever else of its usage is named."""
    record = trace.model_dump()
    for key in ("seconds", *apart):
        del record["usage"][key]
    return record


def plain_texts(trace: Trace) -> Any:
    """What was written and chosen, whatever it cost."""
    return [(c.text, c.finish) for c in trace.candidates], trace.verdicts, trace.chosen


METHODS = [
    ("single", 1, None),
    ("majority", 3, None),
    ("best-of-n", 3, "self"),
    ("best-of-n", 3, "likelihood"),
    ("sentence-beam", 2, "self"),
    ("stage-beam", 3, "self"),
    ("stage-beam", 2, "logits"),
]


@pytest.mark.parametrize("way", WAYS)
async def test_each_prompt_format_gives_the_trace_of_the_model_itself(way: Any) -> None:
    stops = {"continue": "kept", "trailing": "named", "none": "kept"}[way]
    with Double(scripted(), way, stops=stops) as server, opened(server) as model:  # type: ignore[arg-type]
        assert model.capabilities.prefix == way
        for method, n, judge in METHODS:
            server.usages.clear()
            kinds: Any = {"method": method, "n": n, "judge": judge, "sampling": Sampling(seed=3)}
            expected = await ask(Seeded(script, choose), None, QUESTION, **kinds)
            trace = await ask(model, None, QUESTION, **kinds)
            # The turns that ask for what comes next are read too, and are reported as they are.
            apart = ("prompt_tokens",) if way == "none" else ()
            if method == "sentence-beam":  # it has more stop strings than a server takes
                assert plain_texts(trace) == plain_texts(expected)
                assert trace.usage.completion_tokens > expected.usage.completion_tokens
            else:
                assert plain(trace, *apart) == plain(expected, *apart), method
            assert trace.usage.prompt_tokens >= expected.usage.prompt_tokens


async def test_images_arrive_whole_and_before_the_text() -> None:
    behind = scripted()
    with Double(behind) as server, opened(server) as model:
        await ask(model, None, QUESTION, method="single")
    assert behind.calls[-1].prompt == Prompt.of(QUESTION.text, (PICTURE,))
    assert [part["type"] for part in server.bodies[-1]["messages"][-1]["content"]] == ["image_url", "text"]


def test_images_within_a_text_are_sent_at_their_places() -> None:
    prompt = Prompt.of(f"Is {PLACE} like {PLACE}", (PICTURE, PICTURE))
    for way, last in (("continue", "image_url"), ("none", "text")):
        turns, _ = messages(prompt, way, ("</SUMMARY>",), None)  # type: ignore[arg-type]
        kinds = [part["type"] for part in turns[0]["content"]]
        assert kinds[:4] == ["text", "image_url", "text", "image_url"] and kinds[-1] == last


@pytest.mark.parametrize("way", WAYS)
async def test_a_stop_that_is_silently_cut_off_is_not_sent(way: Any) -> None:
    with Double(scripted(), way, stops="silent") as server, opened(server) as model:
        assert not model.capabilities.stops
        expected = await ask(Seeded(script), None, QUESTION, n=2, sampling=Sampling(seed=3))
        trace = await ask(model, None, QUESTION, n=2, stages="trained", sampling=Sampling(seed=3))
        assert not any("stop" in body for body in server.bodies)
        assert plain_texts(trace) == plain_texts(expected)
        # What was written after the stop was written, and is counted.
        assert trace.usage.completion_tokens == sum(usage["completion_tokens"] for usage in server.usages)
        assert trace.usage.completion_tokens > expected.usage.completion_tokens


async def test_a_strict_server_with_little_to_offer_is_found_out_and_used() -> None:
    server = Double(scripted(), "none", stops="silent", many=False, logprobs=False, strict=True)
    with server, opened(server) as model:
        found = model.capabilities
        assert (found.prefix, found.many, found.stops, found.top_logprobs) == ("none", False, False, 0)
        trace = await ask(model, None, QUESTION, n=3, stages="trained")
        assert trace.answer in ("1", "2")
        assert trace.usage.completion_tokens == sum(usage["completion_tokens"] for usage in server.usages)
        assert len({body["seed"] for body in server.bodies}) == len(server.bodies)
        requests = len(server.bodies)
        with pytest.raises(RequestError, match=r"needs log-probabilities.*choose the judge self"):
            await ask(model, None, QUESTION, judge="logits")
        assert len(server.bodies) == requests
        with pytest.raises(ModelError, match=r"gives no log-probabilities.*choose the judge self"):
            await model.choose(Prompt.of("q"), ("1", "2"))


async def test_each_sample_has_its_own_seed_whichever_call_it_is_of() -> None:
    with Double(scripted(), many=False) as server, opened(server) as model:
        whole = await model.sample(Prompt.of("q"), 3, Sampling(seed=4))
        seeds = [body["seed"] for body in server.bodies[-3:]]
        assert seeds == [request_seed(4, number) for number in range(3)]
        rest = await model.sample(Prompt.of("q"), 2, Sampling(seed=4, first=1))
        assert [body["seed"] for body in server.bodies[-2:]] == seeds[1:]
        assert [one.text for one in rest] == [one.text for one in whole[1:]]


async def test_what_a_server_can_do_is_found_out_once() -> None:
    with Double(scripted()) as server:
        with opened(server) as first:
            pass
        with closing(open_model(server.url)) as second:
            assert server.bodies == []
            assert second.capabilities == first.capabilities  # type: ignore[union-attr]


async def test_greedy_samples_are_a_request_each() -> None:
    with Double(scripted()) as server, opened(server) as model:
        found = await model.sample(Prompt.of(QUESTION.text), 3, Sampling(temperature=0))
        assert len(found) == len(server.bodies) == 3


async def test_a_model_under_another_name_is_requested_under_its_own() -> None:
    with Double(scripted()) as server, opened(server) as model:
        own, model.name = model.name, "org/other"
        await model.sample(Prompt.of("How many?"), 1, Sampling())
        assert server.bodies[-1]["model"] == own


async def test_n_samples_are_one_request_and_share_what_they_read() -> None:
    with Double(scripted()) as server, opened(server) as model:
        samples = await model.sample(Prompt.of("How many?"), 4, Sampling())
        assert [body.get("n") for body in server.bodies] == [4]
        [usage] = server.usages
        assert {sample.prompt_tokens for sample in samples} == {usage["prompt_tokens"]}
        assert sum(sample.completion_tokens for sample in samples) == usage["completion_tokens"]


async def test_single_streams_and_its_pieces_are_the_answer() -> None:
    events: list[Event] = []
    with Double(scripted()) as server, opened(server) as model:
        trace = await ask(model, None, QUESTION, method="single", on_event=events.append)
        deltas = [event.text for event in events if isinstance(event, TextDelta)]
        assert len(deltas) > 5
        assert "".join(deltas) == trace.text
        server.faults.extend(["cut", "break"])  # nothing is streamed twice
        events.clear()
        again = await ask(model, None, QUESTION, method="single", on_event=events.append)
        assert "".join(e.text for e in events if isinstance(e, TextDelta)) == again.text == trace.text


async def test_a_request_that_was_broken_off_keeps_no_later_one_waiting() -> None:
    with Double(scripted()) as server, opened(server) as model:
        for i in range(200):
            task = asyncio.create_task(model.sample(Prompt.of("How many?"), 1, Sampling(), lambda text: None))
            await asyncio.sleep(i / 50_000)  # wherever the request is by then
            task.cancel()
            await asyncio.wait({task})
            async with asyncio.timeout(30):
                assert await model.sample(Prompt.of("How many?"), 1, Sampling())


async def test_a_failure_of_on_text_is_raised() -> None:
    def fail(text: str) -> None:
        raise RuntimeError("no ears")

    with Double(scripted()) as server, opened(server) as model:
        with pytest.raises(RuntimeError, match="no ears"):
            await model.sample(Prompt.of("How many?"), 1, Sampling(), fail)
        assert await model.sample(Prompt.of("How many?"), 1, Sampling())


FAULTS = ("429", "500", "503", "break", "cut", "garbage", "html")


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_failure_that_passes_is_tried_again(fault: Any) -> None:
    with Double(scripted()) as server, opened(server) as model:
        expected = await ask(model, None, QUESTION, sampling=Sampling(seed=4))
        server.faults.extend([fault, fault])
        assert plain(await ask(model, None, QUESTION, sampling=Sampling(seed=4))) == plain(expected)
        assert not server.faults


async def test_a_server_that_does_not_answer_in_time_is_tried_again(tmp_path: Path) -> None:
    with Double(scripted()) as server:
        configure(tmp_path, f"providers:\n  mine: {{url: '{server.url}', seconds: 3}}\n")
        with opened(server, "mine") as model:
            server.faults.append("slow")
            assert await model.sample(Prompt.of("How many?"), 1, Sampling())
            assert len(server.bodies) >= 2


async def test_retry_after_is_waited_for() -> None:
    with Double(scripted(), wait="1") as server, opened(server) as model:
        server.faults.append("429")
        started = asyncio.get_running_loop().time()
        await model.sample(Prompt.of("How many?"), 1, Sampling())
        assert asyncio.get_running_loop().time() - started >= 1
        server.wait = "99999"
        server.faults.append("429")
        with pytest.raises(ModelError, match=r"failed at 1 attempt: it answered 429.*wait 99999 seconds"):
            await model.sample(Prompt.of("How many?"), 1, Sampling())


@pytest.mark.parametrize("status", ["400", "401"])
async def test_a_refusal_is_passed_on_and_not_tried_again(status: Any) -> None:
    with Double(scripted()) as server, opened(server) as model:
        server.faults.append(status)
        with pytest.raises(ModelError, match=f"made to fail with {status}"):
            await model.sample(Prompt.of("How many?"), 1, Sampling())
        assert len(server.bodies) == 1


async def test_a_failure_that_does_not_pass_ends_with_its_reason() -> None:
    with Double(scripted()) as server, opened(server) as model:
        server.faults.extend(["500"] * 99)
        with pytest.raises(ModelError, match="failed at 12 attempts: it answered 500: made to fail"):
            await model.sample(Prompt.of("How many?"), 1, Sampling())


async def test_cancelling_a_question_closes_its_requests() -> None:
    with Double(scripted(), many=False) as server, opened(server) as model:
        server.faults.extend(["slow"] * 3)
        asking = asyncio.create_task(ask(model, None, QUESTION, n=3, stages="trained"))
        while len(server.bodies) < 3:
            await asyncio.sleep(0.01)
        assert server.at_once == 3
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(30):
            while server.broken_off < 3:
                await asyncio.sleep(0.01)
        assert (server.at_once, len(server.bodies)) == (0, 3)


async def test_one_sample_that_fails_ends_its_fellows() -> None:
    with Double(scripted(), many=False) as server, opened(server) as model:
        server.faults.extend(["slow", "400", "slow"])
        with pytest.raises(ModelError, match="made to fail with 400"):
            await model.sample(Prompt.of("How many?"), 3, Sampling())
        async with asyncio.timeout(30):
            while server.at_once:
                await asyncio.sleep(0.01)


async def test_a_key_is_sent_and_appears_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LLAVA_COT_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    with Double(scripted(), key=KEY) as server, opened(server) as model:
        trace = await ask(model, None, QUESTION)
        server.faults.append("400")  # whose message quotes the key
        with pytest.raises(ModelError) as refused:
            await ask(model, None, QUESTION)
        assert "made to fail" in str(refused.value) and "***" in str(refused.value)
        server.faults.extend(["500"] * 12)
        with pytest.raises(ModelError) as failed:
            await ask(model, None, QUESTION)
        server.key = "another"
        with pytest.raises(ModelError, match="environment variable LLAVA_COT_API_KEY") as wrong:
            await ask(model, None, QUESTION)
        seen = [str(e.value) + repr(e.value) for e in (refused, failed, wrong)]
        seen += [caplog.text, trace.model_dump_json(), repr(vars(model)), repr(model._http)]
    files = [file.read_text() for file in tmp_path.rglob("*") if file.is_file()]
    assert files
    assert not any(KEY in text for text in seen + files)


def test_questions_of_many_loops_share_the_connections() -> None:
    with Double(scripted()) as server, opened(server) as model:
        before = server.connections
        for _ in range(3):
            assert ask_sync(model, None, QUESTION, method="single").answer
        assert server.connections == before
    with pytest.raises(ModelError, match="has been closed"):
        ask_sync(model, None, QUESTION)


async def test_no_more_requests_than_allowed_are_in_flight(tmp_path: Path) -> None:
    with Double(scripted()) as server:
        configure(tmp_path, f"providers:\n  mine: {{url: '{server.url}', in_flight: 3}}\n")
        with opened(server, "mine") as model:
            server.delay, server.most_at_once = 0.02, 0
            prompts = [Prompt.of(f"How many? {k}") for k in range(12)]
            await asyncio.gather(*(model.sample(prompt, 1, Sampling()) for prompt in prompts))
            assert server.most_at_once == 3


async def test_prices_make_money_of_usage(tmp_path: Path) -> None:
    with Double(scripted()) as server:
        configure(tmp_path, "prices:\n  scripted: {input: 2, output: 30}\n")
        with opened(server) as model:
            trace = await ask(model, None, QUESTION, stages="trained", n=3)
            read = sum(usage["prompt_tokens"] for usage in server.usages)
            written = sum(usage["completion_tokens"] for usage in server.usages)
            # Samples of one request each count what they read, which is paid for once.
            assert trace.usage.prompt_tokens > read
            assert trace.usage.usd == pytest.approx((2 * read + 30 * written) / 1e6)
            scored = await ask(model, None, QUESTION, stages="trained", n=2, judge="logits")
            assert scored.usage.usd is not None and scored.usage.prompt_tokens > 0


def test_a_server_that_is_not_there_is_said_at_once() -> None:
    with Double(scripted()) as server:
        url = server.url
    with pytest.raises(ModelError, match=r"cannot be reached.*is the server running there"):
        open_model(url)


def test_a_server_with_several_models_wants_a_name() -> None:
    with Double(scripted(), models=("one", "two")) as server:
        with pytest.raises(ModelError, match="2 models; choose one with --model-name: one, two"):
            open_model(server.url)
        with opened(server, name="two") as model:
            assert model.name == "two"


def test_vllm_and_sglang_are_known_by_name() -> None:
    mute = ScriptedModel(lambda prompt, rng: "junk")
    for owner in ("vllm", "sglang"):
        with Double(mute, owner=owner) as server, opened(server) as model:
            assert (model.capabilities.prefix, model.capabilities.stops) == ("continue", True)
