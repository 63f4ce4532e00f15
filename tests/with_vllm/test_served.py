"""The endpoint model and a real vLLM server, which is a process on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from opening import noise
from searches import every_search, search
from transformers import PreTrainedTokenizerFast
from vllm_server import serving

from llava_cot import ask, open_model
from llava_cot.core.stages import LLAVA_COT, validate
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.endpoint.client import EndpointModel
from llava_cot.models.local.model import LocalModel

GREEDY = Sampling(temperature=0, max_tokens=24)
PROMPTS = [
    Prompt.of("How many?", (noise(1),)),
    Prompt.of("Which?", (noise(1), noise(3)), "<SUMMARY> I will"),
    Prompt.of("How many?", (), "I choose"),
]


@pytest.fixture(scope="module")
def address(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # Without these, a long prompt with a seed ends the server, on a CPU.
    settings = ("--no-enable-chunked-prefill", "--max-num-batched-tokens", "4096")
    with serving(folder, tmp_path_factory.mktemp("served"), *settings) as url:
        yield url


@pytest.fixture(scope="module")
def model(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndpointModel]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        opened = open_model(f"{address}/v1")
    assert isinstance(opened, EndpointModel)
    yield opened
    opened.close()


def hits(address: str) -> tuple[float, float]:
    """Tokens that the server found in its prefix cache and tokens that it looked for, by its own metrics."""
    lines = httpx.get(f"{address}/metrics").text.splitlines()
    values = {line.partition("{")[0]: float(line.split()[-1]) for line in lines if line.startswith("vllm:")}
    return values["vllm:prefix_cache_hits_total"], values["vllm:prefix_cache_queries_total"]


def test_what_it_can_do_is_found(model: EndpointModel) -> None:
    found = model.capabilities
    assert (found.prefix, found.many, found.stops) == ("continue", True, True)
    assert (found.top_logprobs, found.seed, found.limit) == (20, True, "max_tokens")


async def test_greedy_is_what_the_local_engine_writes(
    model: EndpointModel, local: LocalModel, folder: Path
) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    for prompt in PROMPTS:
        samples = await model.sample(prompt, 2, GREEDY)
        [expected] = await local.sample(prompt, 1, GREEDY)
        # Special tokens are no text there, nor is the beginning of a character that was not finished.
        text = tokenizer.decode(expected.tokens, skip_special_tokens=True).rstrip("\ufffd")
        for found in samples:
            assert found.text.rstrip("\ufffd") == text
            assert found.logprob == pytest.approx(expected.logprob, abs=5e-3)
            assert (found.finish, found.prompt_tokens) == (expected.finish, expected.prompt_tokens)


async def test_choose_gives_the_local_engines_log_probabilities(
    model: EndpointModel, local: LocalModel
) -> None:
    for prompt in PROMPTS:
        tried = await local.sample(prompt, 9, Sampling(1.0, max_tokens=1))
        options = sorted({one.text for one in tried if one.text.isalnum() and one.text.isascii()})
        scores = await model.choose(prompt, options)
        values = [i for i, score in enumerate(scores) if score > float("-inf")]
        expected = await local.choose(prompt, options)
        assert values
        assert [scores[i] for i in values] == pytest.approx([expected[i] for i in values], abs=5e-3)


async def test_whole_stages_have_the_local_engines_log_probabilities(
    model: EndpointModel, local: LocalModel
) -> None:
    assert model.capabilities.prompt_logprobs
    long = "\n\n<CAPTION> " + " ".join(f"There are {n} red cubes." for n in range(12)) + " </CAPTION>"
    for prompt in PROMPTS:
        for text in (long, " red cubes"):
            found = await model.choose(prompt, [text])
            assert found == pytest.approx(await local.choose(prompt, [text]), abs=2e-2)


@every_search
async def test_every_method_and_judge_runs(model: EndpointModel, method: str, judge: str | None) -> None:
    await search(model, method, judge, picture=noise(7))


@pytest.mark.parametrize("method", ["single", "stage-beam", "sentence-beam", "best-of-n", "majority"])
async def test_it_is_prompted_for_stages(model: EndpointModel, method: str) -> None:
    sampling = Sampling(temperature=1, max_tokens=48)
    trace = await ask(model, noise(7).pil, "How many?", method=method, stages="prompted", sampling=sampling)
    assert trace.staging == "prompted" and list(trace.stages) == list(LLAVA_COT.names)
    assert {found.kind for found in validate(trace.text)} <= {"empty"}  # it writes noise


async def test_the_chat_template_gets_its_arguments(
    model: EndpointModel, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    [plain] = await model.sample(PROMPTS[0], 1, GREEDY)
    thinker = open_model(f"{address}/v1", chat_template_kwargs={"enable_thinking": True})
    [thinking] = await thinker.sample(PROMPTS[0], 1, GREEDY)
    thinker.close()
    assert thinking.prompt_tokens > plain.prompt_tokens, "the template has opened the thinking"


async def test_a_search_finds_its_prefixes_in_the_cache(model: EndpointModel, address: str) -> None:
    for judge in ("self", "logits"):
        before = hits(address)
        for seed in range(4):
            await search(model, "stage-beam", judge, picture=noise(900 + seed), n=4, seed=seed, max_tokens=80)
        found, looked_up = (now - then for now, then in zip(hits(address), before, strict=True))
        print(f"stage-beam, judge {judge}: {found:.0f} of {looked_up:.0f} prompt tokens were in the cache")
        assert found > looked_up / 3
