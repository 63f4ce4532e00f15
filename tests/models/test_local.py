"""What a local model does around its forward passes: limits, memory, streams, cancelling, failing."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from opening import Tiny, noise
from torch import Tensor

from llava_cot.errors import ModelError, ModelFailure
from llava_cot.models.base import Message, Prompt, Sampling
from llava_cot.models.local import engine
from llava_cot.models.local.model import LocalModel
from llava_cot.models.local.sampler import draw

GREEDY = Sampling(temperature=0, max_tokens=20)
WARM = Sampling(temperature=1.0, top_p=0.95, max_tokens=20, seed=3)
PROMPTS = [Prompt.of(f"How many? {'And ' * i}", (noise(i % 3),) if i % 4 else ()) for i in range(9)]


@pytest.fixture
def mllama(opened: Callable[[str], Tiny]) -> Tiny:
    return opened("mllama")


@pytest.fixture
def fresh(mllama: Tiny) -> Iterator[Callable[..., LocalModel]]:
    """Opens the checkpoint anew with other settings."""
    models = []

    def open_it(**settings: int) -> LocalModel:
        models.append(LocalModel(mllama.folder, device="cpu", **settings))  # type: ignore[arg-type]
        return models[-1]

    yield open_it
    for model in models:
        model.close()


async def tokens(model: LocalModel, sampling: Sampling, n: int = 3) -> list[list[tuple[int, ...]]]:
    found = await asyncio.gather(*(model.sample(prompt, n, sampling) for prompt in PROMPTS))
    return [[continuation.tokens for continuation in some] for some in found]


async def test_a_call_goes_on_where_another_stopped(mllama: Tiny) -> None:
    whole = await mllama.model.sample(PROMPTS[0], 5, WARM)
    parts = [
        await mllama.model.sample(PROMPTS[0], n, replace(WARM, first=first)) for first, n in ((0, 2), (2, 3))
    ]
    assert [one.tokens for part in parts for one in part] == [one.tokens for one in whole]
    assert len({one.tokens for one in whole}) == 5


async def idle(model: LocalModel) -> None:
    """Until no row is left; a result comes just before its row leaves."""
    for _ in range(100):
        if not model._engine.busy:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("rows of no call are left")


async def test_a_small_batch_and_a_small_memory_change_no_token(
    mllama: Tiny, fresh: Callable[..., LocalModel]
) -> None:
    expected = await tokens(mllama.model, WARM)
    for settings, memory in (
        ({"max_batch": 2}, 10**6),
        ({"cache_mb": 1}, 30_000),
        ({"cache_mb": 1}, 100_000),
    ):
        model = fresh(**settings)
        model._engine._room = memory
        model._engine._prefixes.limit = memory
        running = asyncio.create_task(tokens(model, WARM))
        while not running.done():
            assert model.cache_bytes <= 2 * memory + 20_000  # what is being added
            await asyncio.sleep(0.001)
        assert await running == expected, settings


async def test_a_text_that_does_not_fit_in_memory_is_refused(fresh: Callable[..., LocalModel]) -> None:
    model = fresh()
    model._engine._room = 5_000
    with pytest.raises(ModelError, match="cache_mb"):
        await model.sample(Prompt.of("How many? " * 20), 1, GREEDY)
    with pytest.raises(ModelError, match="cache_mb"):  # it fits at first, and outgrows its room
        await model.sample(Prompt.of("?"), 1, replace(GREEDY, max_tokens=400))
    await idle(model)


async def test_a_prompt_longer_than_the_context_is_refused(mllama: Tiny) -> None:
    long = Prompt.of("How many? " * 300)
    assert mllama.model.count_tokens(long) > tiny.CONTEXT
    for call in (mllama.model.sample(long, 1, GREEDY), mllama.model.choose(long, ("a", "b"))):
        with pytest.raises(ModelError, match=rf"{tiny.CONTEXT}"):
            await call


async def test_an_answer_ends_with_the_context(mllama: Tiny) -> None:
    ids = tuple([70, 71] * ((tiny.CONTEXT - 20) // 2))
    prompt = Prompt((Message("user", "How?"),), "", ids)
    room = tiny.CONTEXT - mllama.model.count_tokens(prompt)
    assert 0 < room < 40
    found = (await mllama.model.sample(prompt, 1, replace(WARM, max_tokens=1000)))[0]
    assert found.completion_tokens == room or found.finish == "eos"


async def test_ids_that_the_model_does_not_have_are_refused(mllama: Tiny) -> None:
    with pytest.raises(ModelError, match="does not know"):
        await mllama.model.sample(Prompt((Message("user", "How?"),), "", (10**6,)), 1, GREEDY)


async def test_a_sample_stops_at_a_stop_string(mllama: Tiny) -> None:
    whole = (await mllama.model.sample(PROMPTS[1], 1, GREEDY))[0]
    stop = whole.text[5:8]
    found = (await mllama.model.sample(PROMPTS[1], 2, replace(GREEDY, stop=("nowhere", stop))))[1]
    end = whole.text.index(stop) + len(stop)
    assert found.text == whole.text[:end].rstrip()
    assert found.finish == "stop"
    assert len(found.tokens) <= found.completion_tokens < len(whole.tokens)
    assert found.logprob is not None
    assert whole.logprob is not None
    assert whole.logprob < found.logprob < 0


async def test_an_end_token_is_counted_and_is_in_neither_text_nor_tokens(mllama: Tiny) -> None:
    end = mllama.processor.tokenizer.eos_token_id
    everything = await asyncio.gather(
        *(mllama.model.sample(p, 8, replace(WARM, max_tokens=60)) for p in PROMPTS)
    )
    ended = [found for some in everything for found in some if found.finish == "eos"]
    assert ended
    for found in ended:
        assert end not in found.tokens
        assert found.completion_tokens == len(found.tokens) + 1
        assert found.text == mllama.processor.tokenizer.decode(found.tokens)


@pytest.mark.parametrize("stop", [(), ("\n", "a", " c")])
async def test_what_streams_is_the_text(mllama: Tiny, stop: tuple[str, ...]) -> None:
    for seed in range(5):
        shown: list[str] = []
        sampling = replace(WARM, seed=seed, stop=stop, max_tokens=40)
        found = await mllama.model.sample(PROMPTS[1], 2, sampling, shown.append)
        assert "".join(shown) == found[0].text
        assert len(shown) > 1 or found[0].completion_tokens < 10
        again = await mllama.model.sample(PROMPTS[1], 2, sampling)
        assert [(one.tokens, one.finish) for one in again] == [(one.tokens, one.finish) for one in found]
        assert [one.logprob for one in again] == pytest.approx([one.logprob for one in found], abs=2e-3)


async def test_a_listener_that_fails_fails_its_call(mllama: Tiny) -> None:
    def fail(text: str) -> None:
        raise KeyError(text)

    with pytest.raises(KeyError):
        await mllama.model.sample(PROMPTS[1], 1, GREEDY, fail)
    assert await mllama.model.sample(PROMPTS[1], 1, GREEDY)


async def test_a_cancelled_call_takes_its_rows_out(mllama: Tiny) -> None:
    expected = await mllama.model.sample(PROMPTS[1], 2, GREEDY)
    long = asyncio.create_task(mllama.model.sample(PROMPTS[2], 8, replace(WARM, max_tokens=450)))
    await asyncio.sleep(0.05)
    assert mllama.model._engine._running()
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long
    assert await mllama.model.sample(PROMPTS[1], 2, GREEDY) == expected
    await idle(mllama.model)


async def test_a_pass_that_fails_fails_its_calls_and_no_later_one(
    mllama: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = mllama.model._engine._network
    for name in ("step", "extend", "run_heads"):
        with monkeypatch.context() as broken:
            broken.setattr(network, name, lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await mllama.model.sample(Prompt.of(name, (noise(150 + len(name)),)), 2, GREEDY)
        assert await mllama.model.sample(PROMPTS[1], 2, GREEDY)


async def test_an_image_that_cannot_be_processed_fails_only_its_call(
    mllama: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(text: str, images: object, special: bool) -> None:
        raise ModelError("the processor cannot take the images")

    monkeypatch.setattr(mllama.model._encoder, "_process", fail)
    found = await asyncio.gather(
        mllama.model.sample(Prompt.of("How?", (noise(77),)), 1, GREEDY),
        mllama.model.sample(Prompt.of("How?"), 1, GREEDY),
        return_exceptions=True,
    )
    assert isinstance(found[0], ModelError)
    assert isinstance(found[1], list)


def test_event_loops_may_follow_one_another(mllama: Tiny) -> None:
    async def ask() -> object:
        return await mllama.model.sample(PROMPTS[1], 2, GREEDY)

    async def give_up() -> None:
        await asyncio.wait_for(mllama.model.sample(PROMPTS[2], 2, replace(WARM, max_tokens=450)), 0.02)

    first = asyncio.run(ask())
    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert asyncio.run(ask()) == first


def test_a_model_without_references_ends_its_thread(mllama: Tiny) -> None:
    model = LocalModel(mllama.folder, device="cpu")
    asyncio.run(model.sample(PROMPTS[0], 1, GREEDY))
    thread = model._loop._thread
    del model
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


def test_an_interrupt_while_closing_comes_after_it(mllama: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = LocalModel(mllama.folder, device="cpu")
    thread, wait = model._loop._thread, model._loop._ended.wait
    interrupts = [KeyboardInterrupt, KeyboardInterrupt]

    def interrupted(patience: float | None) -> bool:
        if interrupts:
            raise interrupts.pop()
        return wait(patience)

    monkeypatch.setattr(model._loop._ended, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.close()
    assert not thread.is_alive()
    model.close()


async def test_a_closed_model_answers_nothing(fresh: Callable[..., LocalModel]) -> None:
    model = fresh()
    running = asyncio.create_task(model.sample(PROMPTS[0], 1, replace(WARM, max_tokens=450)))
    await asyncio.sleep(0.02)
    await asyncio.to_thread(model.close)
    for call in (running, model.sample(PROMPTS[0], 1, GREEDY)):
        with pytest.raises(ModelError, match="closed"):
            await call


async def test_calls_made_together_share_their_passes(mllama: Tiny) -> None:
    prompts = [
        Prompt.of(f"Which {i}? {'How many objects are there? ' * 3}", (noise(200 + i),)) for i in range(6)
    ]
    before = replace(mllama.model.stats)
    await asyncio.gather(*(mllama.model.sample(prompt, 4, GREEDY) for prompt in prompts))
    after = mllama.model.stats
    assert after.prefills == before.prefills + 1
    assert after.decode_steps <= before.decode_steps + GREEDY.max_tokens - 1
    assert after.encodings == before.encodings + 6


async def test_a_common_beginning_is_run_once(mllama: Tiny) -> None:
    beginning = "What color is the small metal sphere left of the cube? " * 5
    prompts = [Prompt.of(beginning + end, (noise(300),)) for end in ("a", "b", "no", "yes or no")]
    length = mllama.model.count_tokens(prompts[0])
    before = mllama.model.stats.prefill_tokens
    together = await asyncio.gather(*(mllama.model.choose(prompt, ("a", "b")) for prompt in prompts))
    assert mllama.model.stats.prefill_tokens - before < length + 40
    for prompt, scores in zip(prompts, together, strict=True):
        assert await mllama.alone.choose(prompt, ("a", "b")) == pytest.approx(scores, abs=1e-3)


async def test_a_long_text_is_run_in_parts(
    mllama: Tiny, fresh: Callable[..., LocalModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = await tokens(mllama.model, WARM)
    monkeypatch.setattr("llava_cot.models.local.engine._TOKENS", 4)
    assert await tokens(fresh(), WARM) == expected
    scores = [await model.choose(PROMPTS[1], ("yes or no", "b")) for model in (fresh(), mllama.model)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


@pytest.mark.parametrize("options", [(), ("a", "")])
async def test_no_option_is_refused(mllama: Tiny, options: tuple[str, ...]) -> None:
    with pytest.raises(ModelError, match="option"):
        await mllama.model.choose(PROMPTS[0], options)


@pytest.mark.parametrize(("n", "limit"), [(0, 5), (1, 0)])
async def test_nothing_is_refused(mllama: Tiny, n: int, limit: int) -> None:
    with pytest.raises(ValueError, match=r"at least 1|greater than or equal to 1"):
        await mllama.model.sample(PROMPTS[0], n, replace(GREEDY, max_tokens=limit))


async def test_the_beginning_of_text_is_doubled_on_demand(
    mllama: Tiny, fresh: Callable[..., LocalModel]
) -> None:
    twice = fresh(double_bos=True)
    for prompt in PROMPTS[:2]:
        once = mllama.model._encoder.encode(prompt)
        assert twice._encoder.encode(prompt).ids == (once.ids[0], *once.ids)
        assert once.ids[0] == mllama.processor.tokenizer.bos_token_id
    scores = await asyncio.gather(*(m.choose(PROMPTS[1], ("a", "b")) for m in (twice, mllama.model)))
    assert scores[0] != pytest.approx(scores[1], abs=1e-3)


async def test_a_sample_that_is_not_a_number_fails_alone(
    mllama: Tiny, fresh: Callable[..., LocalModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = await tokens(mllama.model, WARM)
    model, bad = fresh(), 666

    def spoil(logits: Tensor, options: Sequence[Sampling], *others: Any) -> tuple[list[int], list[float]]:
        for row, sampling in enumerate(options):
            if sampling.seed == bad and model.stats.decode_steps > 3:
                logits = logits.index_fill(0, torch.tensor([row]), torch.nan)
        return draw(logits, options, *others)

    monkeypatch.setattr(engine, "draw", spoil)
    found, failed = await asyncio.gather(
        tokens(model, WARM), model.sample(PROMPTS[1], 2, replace(WARM, seed=bad)), return_exceptions=True
    )
    assert found == expected
    assert isinstance(failed, ModelFailure) and "not a number" in str(failed)
    await idle(model)
    assert await tokens(model, WARM) == expected
