"""Every call inside the engine is made to fail in turn: each caller gets an answer or an error, and the
engine goes on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import tiny
from opening import noise
from turns import in_turn

import llava_cot.models.local.engine as engine_file
from llava_cot.errors import ModelError, ModelFailure
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.local.model import LocalModel

GREEDY = Sampling(temperature=0, max_tokens=4)
WARM = Sampling(temperature=1.0, max_tokens=4, top_k=20, repetition_penalty=1.1, seed=3)
PATIENCE = 10
CONTROL = Prompt.of("How many?", (noise(1),))
HERE = str(Path(engine_file.__file__).parent)
# What gives the callers their errors.
LAST = ("EngineCall.fail", "Engine.fail", "Engine._fail")

Site = tuple[str, str]  # a function of the engine, and what it calls


class Fault(Exception):
    """What is raised on purpose."""


class Injector:
    """Watches the calls that a step of the engine makes, and makes one of them fail."""

    def __init__(self, engine: Any) -> None:
        self._step, self._engine = engine.step, engine
        self.seen: dict[Site, None] = {}
        self.fail_at: Site | None = None
        self.error: Callable[[], BaseException] = Fault
        self.raised = False
        engine.step = self.step

    def begin(self, fail_at: Site | None = None) -> None:
        self.fail_at, self.raised = fail_at, False

    def step(self) -> None:
        sys.setprofile(self._watch)
        try:
            self._step()
        finally:
            sys.setprofile(None)

    def _watch(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            what, caller = frame.f_code.co_qualname, frame.f_back
        elif event == "c_call":
            what, caller = arg.__qualname__, frame
        else:
            return
        if caller is None or not caller.f_code.co_filename.startswith(HERE):
            return
        name = caller.f_code.co_qualname
        # A lock does not fail to open, nor an event loop to note that a result is there.
        if name.startswith(LAST) or what.startswith((*LAST, "RLock.", "BaseEventLoop.")):
            return
        site = (name, what)
        self.seen.setdefault(site)
        if site == self.fail_at and not self.raised:
            self.raised = True
            raise self.error()


@pytest.fixture(scope="module", params=["mllama"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalModel]:
    folder = tiny.make(request.param, tmp_path_factory.mktemp(request.param))
    found = LocalModel(folder, device="cpu", max_batch=12)
    yield found
    found.close()


async def ask(model: LocalModel, seed: int) -> list[Any]:
    """Calls of all kinds, made together, on pictures that no other seed has."""
    shared, other = noise(seed), noise(seed + 1)
    beginning = "What color is the small metal sphere left of the cube? " * 2
    shown: list[str] = []
    calls = [
        model.sample(Prompt.of("How many?", (shared,)), 2, GREEDY),
        model.sample(Prompt.of("Which?", (shared,)), 3, replace(WARM, stop=(" ",)), shown.append),
        model.choose(Prompt.of("Or?", (shared,)), ("a", "b", "yes or no")),
        model.sample(Prompt.of("How many?", (other,)), 1, GREEDY),
        *(model.sample(Prompt.of(beginning + end), 1, WARM) for end in ("a", "b")),
        model.sample(Prompt.of("Which of the two?", (shared, other)), 2, WARM),
    ]
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*calls, return_exceptions=True)


async def test_every_call_inside_the_engine_may_fail(model: LocalModel) -> None:
    expected = await model.sample(CONTROL, 2, GREEDY)
    injector = Injector(model._engine)
    injector.begin()
    assert not [one for one in await ask(model, 1000) if isinstance(one, BaseException)]
    await ask(model, 1000)  # what was cached is found
    sites = list(injector.seen)
    assert len(sites) > 200
    sites = in_turn(sites, 4)  # some 40 seconds for all
    reached = 0
    for number, site in enumerate(sites):
        injector.begin(site)
        found = await ask(model, 2000 + 2 * number)
        if not injector.raised:  # only where something is cached
            found = await ask(model, 2000 + 2 * number)
        reached += injector.raised
        for one in found:
            assert isinstance(one, list | Fault | ModelError), (site, one)
        injector.begin()
        async with asyncio.timeout(PATIENCE):
            again = await model.sample(CONTROL, 2, GREEDY)
        assert [one.tokens for one in again] == [one.tokens for one in expected], site
        assert not model._engine.busy and not model._engine._calls, site
    assert reached > 0.9 * len(sites)


@pytest.mark.parametrize("error", [StopIteration, KeyboardInterrupt, SystemExit, asyncio.CancelledError])
async def test_what_would_end_a_loop_is_an_error_of_the_call(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def fail(*_: Any) -> None:
        raise error

    for number, name in enumerate(("step", "extend", "run_heads")):
        with monkeypatch.context() as broken:
            broken.setattr(model._engine._network, name, fail)
            found = await ask(model, 10_000 + 10 * len(error.__name__) + 2 * number)
            assert any(isinstance(one, ModelFailure) for one in found)
            assert all(isinstance(one, list | ModelFailure) for one in found)
    assert await model.sample(CONTROL, 2, GREEDY)


async def test_all_questions_on_a_picture_get_its_error_and_no_other(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = noise(20_000), noise(20_001)
    whole = model._engine._network.run_heads

    def fail_at_one(heads: Any, inputs: Any) -> Any:
        if any(head.images == (bad.sha256,) for head in heads):
            raise Fault
        return whole(heads, inputs)

    monkeypatch.setattr(model._engine._network, "run_heads", fail_at_one)
    prompts = [Prompt.of(text, (image,)) for image in (bad, good) for text in ("How many?", "Why?", "Which?")]
    async with asyncio.timeout(PATIENCE):
        found = await asyncio.gather(
            *(model.sample(prompt, 2, GREEDY) for prompt in prompts), return_exceptions=True
        )
    assert [isinstance(one, Fault) for one in found] == [True] * 3 + [False] * 3
    assert all(isinstance(one, list) for one in found[3:])


async def test_a_call_that_the_engine_loses_fails(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(model._engine, "_prefills", lambda _: [])
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(ModelFailure, match="lost"):
                await model.sample(CONTROL, 2, GREEDY)
    assert await model.sample(CONTROL, 2, GREEDY)


async def test_a_driver_that_fails_fails_its_calls(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        raise Fault

    with monkeypatch.context() as broken:
        broken.setattr(model._driver, "_settle", fail)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(Fault):
                await model.sample(CONTROL, 2, GREEDY)
    assert await model.sample(CONTROL, 2, GREEDY)


async def test_a_row_that_fails_fails_alone(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from llava_cot.models.local.sequences import SampledSequence

    take = SampledSequence.take

    def fail_at_one(self: SampledSequence, token: int, logprob: float) -> bool:
        if self.sampling.seed == 666 and len(self.ids) > len(self.encoded.ids) + 2:
            raise Fault
        return take(self, token, logprob)

    monkeypatch.setattr(SampledSequence, "take", fail_at_one)
    expected = await model.sample(CONTROL, 3, WARM)
    found, failed = await asyncio.gather(
        model.sample(CONTROL, 3, WARM),
        model.sample(CONTROL, 2, replace(WARM, seed=666)),
        return_exceptions=True,
    )
    assert isinstance(failed, Fault)
    assert isinstance(found, list)
    assert [one.tokens for one in found] == [one.tokens for one in expected]


async def test_options_that_are_no_numbers_fail_and_spoil_no_later_row(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = await model.sample(CONTROL, 3, WARM)
    with monkeypatch.context() as broken:
        whole = model._engine._network.extend
        broken.setattr(model._engine._network, "extend", lambda *given: whole(*given) * float("nan"))
        with pytest.raises(ModelFailure, match="not a number"):
            await model.choose(Prompt.of("New?", (noise(30_000),)), ("a", "b"))
    again = await model.sample(CONTROL, 3, WARM)
    assert [one.tokens for one in again] == [one.tokens for one in expected]
