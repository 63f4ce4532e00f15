"""A model that vLLM runs in this process, next to the local engine on the same checkpoint."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from opening import noise
from searches import every_search, search
from vllm.v1.metrics.reader import Counter, get_metrics_snapshot

from llava_cot import ask, open_model
from llava_cot.core.stages import THINKING
from llava_cot.errors import ModelError
from llava_cot.models.base import Constraint, Continuation, Message, Prompt, Sampling
from llava_cot.models.local.model import LocalModel
from llava_cot.models.registry import MINI
from llava_cot.models.vllm import VllmModel

GREEDY = Sampling(temperature=0, max_tokens=24)
WARM = Sampling(temperature=1.0, top_p=0.95, max_tokens=24, seed=3)
PROMPTS = [
    Prompt.of("How many?", (noise(1),)),
    Prompt.of("How many objects are there? " * 9, (noise(2, 30, 80),)),
    Prompt.of("How many?"),
    Prompt.of("Which?", (noise(1), noise(3))),
    Prompt(
        (
            Message("system", "Be brief."),
            Message("user", "How many?", (noise(1),)),
            Message("assistant", "There are 3."),
            Message("user", "And here?", (noise(4),)),
        ),
        "<SUMMARY> I will",
    ),
]


def same(found: Sequence[Continuation], expected: Sequence[Continuation]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert replace(one, logprob=0) == replace(other, logprob=0)
        assert one.logprob == pytest.approx(other.logprob, abs=5e-3)


async def test_greedy_is_what_the_local_engine_writes(model: VllmModel, local: LocalModel) -> None:
    for prompt in PROMPTS:
        same(await model.sample(prompt, 2, GREEDY), await local.sample(prompt, 2, GREEDY))
        assert model.count_tokens(prompt) == local.count_tokens(prompt)


async def test_choose_gives_the_local_engines_log_probabilities(model: VllmModel, local: LocalModel) -> None:
    options = (" 1", " 2", " response 1 is better", "z")
    for prompt in PROMPTS:
        prompt = replace(prompt, prefix="I choose")
        found = await model.choose(prompt, options)
        assert found == pytest.approx(await local.choose(prompt, options), abs=5e-3)
        assert model.count_tokens(prompt) == local.count_tokens(prompt)


LONG = [
    "\n\n<CAPTION> " + " ".join(f"There are {n} red cubes." for n in numbers) + " </CAPTION>"
    for numbers in (range(12), (3, 1), (2, 7, 1, 8))
]


async def test_whole_stages_have_the_local_engines_log_probabilities(
    model: VllmModel, local: LocalModel
) -> None:
    for prompt in PROMPTS:
        prompt = replace(prompt, prefix="<SUMMARY> I will count. </SUMMARY>")
        found = await asyncio.gather(*(model.choose(prompt, [text]) for text in LONG))
        for text, score in zip(LONG, found, strict=True):
            assert score == pytest.approx(await local.choose(prompt, [text]), abs=2e-2)


async def test_samples_differ_from_one_another_and_repeat_with_their_seed(model: VllmModel) -> None:
    first = await model.sample(PROMPTS[0], 4, WARM)
    assert len({one.tokens for one in first}) == 4
    crowd = await asyncio.gather(*(model.sample(prompt, 4, WARM) for prompt in PROMPTS))
    same(crowd[0], first)
    same(await model.sample(PROMPTS[0], 2, WARM), first[:2])
    other = await model.sample(PROMPTS[0], 4, replace(WARM, seed=4))
    assert not {one.tokens for one in other} & {one.tokens for one in first}


async def test_the_thinking_is_what_the_local_engine_writes(model: VllmModel, local: LocalModel) -> None:
    texts = []
    for one in (model, local):
        for method in ("single", "stage-beam", "sentence-beam"):
            trace = await ask(
                one, noise(1).pil, "How many?", method=method, n=1, fmt=THINKING, stages="trained",
                think_tokens=9, min_think_tokens=4, sampling=Sampling(temperature=0, max_tokens=24),
            )  # fmt: skip
            texts.append(trace.text)
            assert trace.staging == "thinking" and list(trace.stages) == ["thinking", "answer"]
    assert texts[:3] == texts[3:]


async def test_a_prefix_by_its_ids_goes_on_as_if_never_stopped(model: VllmModel) -> None:
    for prompt in PROMPTS[:3]:
        whole = (await model.sample(prompt, 1, GREEDY))[0].tokens
        tokens: tuple[int, ...] = ()
        while len(tokens) < len(whole):
            [found] = await model.sample(
                replace(prompt, prefix_tokens=tokens), 1, replace(GREEDY, max_tokens=5)
            )
            tokens += found.tokens
        assert tokens[: len(whole)] == whole


@pytest.mark.parametrize("stop", ["e", "co", "</SUMMARY>", " t"])
async def test_text_is_cut_at_a_stop_string_as_the_local_engine_cuts_it(
    model: VllmModel, local: LocalModel, stop: str
) -> None:
    sampling = replace(GREEDY, max_tokens=200, stop=("\n\n", stop))
    for prompt in PROMPTS:
        same(await model.sample(prompt, 1, sampling), await local.sample(prompt, 1, sampling))


async def test_what_streams_is_the_text(model: VllmModel) -> None:
    for stop in ((), ("a", " c", "é")):
        shown: list[str] = []
        sampling = replace(WARM, stop=stop, max_tokens=40)
        found = await model.sample(PROMPTS[1], 2, sampling, shown.append)
        assert "".join(shown) == found[0].text
        same(await model.sample(PROMPTS[1], 2, sampling), found)


async def test_a_json_schema_is_followed(model: VllmModel) -> None:
    schema = {
        "type": "object",
        "properties": {"b": {"type": "boolean"}, "a": {"enum": ["x", "y"]}},
        "required": ["b", "a"],
        "additionalProperties": False,
    }
    sampling = replace(WARM, max_tokens=400, constraint=Constraint("json", json.dumps(schema)))
    for found in await model.sample(PROMPTS[0], 4, sampling):
        read = json.loads(found.text)
        assert found.finish == "eos" and list(read) == ["b", "a"] and read["a"] in ("x", "y")
    with pytest.raises(ModelError, match="cannot constrain its output to a grammar"):
        await model.sample(PROMPTS[0], 1, replace(WARM, constraint=Constraint("grammar", 'start: "x"')))


async def test_a_sample_ends_with_the_context(model: VllmModel) -> None:
    ids = (70, 71) * ((model.context - 60) // 2)
    prompt = Prompt((Message("user", "How?"),), "", ids)
    [found] = await model.sample(prompt, 1, replace(WARM, max_tokens=1000))
    room = model.context - found.prompt_tokens
    assert 0 < room < 60
    assert found.completion_tokens == room or found.finish == "eos"


async def test_what_cannot_be_asked_is_refused_in_a_sentence(model: VllmModel) -> None:
    many = Prompt.of("How many? " * 2000, (noise(1),))
    pictures = Prompt.of("?", (noise(1),) * 60)
    unknown = Prompt((Message("user", "How?"),), "", (10**6,))
    for prompt, reason in ((many, "4096"), (pictures, "4096"), (unknown, "does not know")):
        for call in (model.sample(prompt, 1, GREEDY), model.choose(prompt, ("a", "b"))):
            with pytest.raises(ModelError, match=reason):
                await call
    for options in ((), ("a", "")):
        with pytest.raises(ModelError, match="option"):
            await model.choose(PROMPTS[0], options)
    for n, limit in ((0, 5), (1, 0)):
        with pytest.raises(ModelError, match="at least 1"):
            await model.sample(PROMPTS[0], n, replace(GREEDY, max_tokens=limit))


def unfinished(model: VllmModel) -> int:
    return model._engines[0].output_processor.get_num_unfinished_requests()


async def test_a_cancelled_call_ends_its_requests(model: VllmModel) -> None:
    expected = await model.sample(PROMPTS[0], 1, GREEDY)
    long = asyncio.create_task(model.sample(PROMPTS[2], 4, replace(WARM, max_tokens=3900)))
    while not unfinished(model):
        await asyncio.sleep(0.01)
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long
    async with asyncio.timeout(5):
        while unfinished(model):
            await asyncio.sleep(0.01)
    same(await model.sample(PROMPTS[0], 1, GREEDY), expected)


async def test_a_listener_that_fails_fails_its_call(model: VllmModel) -> None:
    def fail(text: str) -> None:
        raise KeyError(text)

    with pytest.raises(KeyError):
        await model.sample(PROMPTS[0], 1, GREEDY, fail)
    assert await model.sample(PROMPTS[0], 1, GREEDY)


async def test_many_calls_about_a_new_picture_come_back(model: VllmModel, local: LocalModel) -> None:
    prompts = [Prompt.of(f"How many {i}?", (noise(500 + i % 3),)) for i in range(12)]
    found = await asyncio.gather(*(model.sample(prompt, 2, GREEDY) for prompt in prompts))
    for prompt, samples in zip(prompts, found, strict=True):
        same(samples, await local.sample(prompt, 2, GREEDY))


def test_event_loops_may_follow_one_another(model: VllmModel) -> None:
    first, second = (asyncio.run(model.sample(PROMPTS[0], 2, GREEDY)) for _ in range(2))
    same(first, second)


def hits() -> tuple[float, float]:
    """Tokens that vLLM found in its prefix cache and tokens that it looked for, by its own metrics."""
    values = {metric.name: metric.value for metric in get_metrics_snapshot() if isinstance(metric, Counter)}
    return values["vllm:prefix_cache_hits"], values["vllm:prefix_cache_queries"]


@every_search
async def test_every_method_and_judge_runs(model: VllmModel, method: str, judge: str | None) -> None:
    await search(model, method, judge, picture=noise(7))


async def test_the_same_seed_gives_the_same_search(model: VllmModel) -> None:
    first, second = [await search(model, "stage-beam", "self", picture=noise(8), seed=5) for _ in range(2)]
    assert [c.text for c in first.candidates] == [c.text for c in second.candidates]
    assert first.chosen == second.chosen


async def test_a_search_finds_its_prefixes_in_the_cache(model: VllmModel) -> None:
    rounds = 0
    for judge in ("self", "logits"):
        before = hits()
        for seed in range(4):
            trace = await search(
                model, "stage-beam", judge, picture=noise(900 + seed), n=4, seed=seed, max_tokens=80
            )
            rounds += max(candidate.round for candidate in trace.candidates) + 1
        found, looked_up = (now - then for now, then in zip(hits(), before, strict=True))
        print(f"stage-beam, judge {judge}: {found:.0f} of {looked_up:.0f} prompt tokens were in the cache")
        assert found > looked_up / 3
    assert rounds > 8, "no search had two stages"


async def test_a_closed_model_answers_nothing_and_leaves_no_process(folder: Path, model: VllmModel) -> None:
    before = set(psutil.Process().children(recursive=True))
    other = VllmModel(folder, cache_mb=64, share=False)
    started = set(psutil.Process().children(recursive=True)) - before
    assert started
    same(await other.sample(PROMPTS[0], 2, GREEDY), await model.sample(PROMPTS[0], 2, GREEDY))
    running = asyncio.create_task(other.sample(PROMPTS[2], 1, replace(WARM, max_tokens=3900)))
    while not unfinished(other):
        await asyncio.sleep(0.01)
    await asyncio.to_thread(other.close)
    for call in (running, other.sample(PROMPTS[0], 1, GREEDY)):
        with pytest.raises(ModelError, match="closed"):
            await call
    gone, alive = psutil.wait_procs(started, timeout=20)
    assert gone and not alive


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"device": "cuda"}, "runs on cpu, not on 'cuda'"),
        ({"dtype": "int3"}, "no dtype 'int3'"),
        ({"cache_mb": 0}, "memory for caches is 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(folder: Path, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        open_model(f"vllm:{folder}", **settings)


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "there is no folder"), (tmp_path, "no config.json")):
        with pytest.raises(ModelError, match=reason):
            open_model(f"vllm:{path}")


def test_a_model_that_vllm_does_not_run_is_refused() -> None:
    with pytest.raises(ModelError, match=r"vLLM cannot open .* try the folder without vllm"):
        open_model(f"vllm:{MINI}")
