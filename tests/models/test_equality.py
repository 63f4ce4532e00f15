"""The engine gives what transformers gives, token for token, whatever is shared and batched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from opening import Tiny, noise

from llava_cot.models.base import Continuation, Message, Prompt, Sampling
from llava_cot.models.local.model import LocalModel
from llava_cot.models.local.network import Network

GREEDY = Sampling(temperature=0, max_tokens=24)
LONG = "What color is the small metal sphere left of the cube, and how many objects are there? " * 3
CASES: dict[str, tuple[Message, ...]] = {
    "an image": (Message("user", "How many?", (noise(1),)),),
    "another image": (Message("user", "How many?", (noise(2),)),),
    "a tall image": (Message("user", "How many?", (noise(3, 30, 80),)),),
    "a long text": (Message("user", LONG, (noise(1),)),),
    "no image": (Message("user", "How many?"),),
    "a long text without image": (Message("user", LONG),),
    "two images": (Message("user", "Which?", (noise(1), noise(2))),),
    "two images in two turns": (
        Message("system", "Be brief."),
        Message("user", "How many?", (noise(1),)),
        Message("assistant", "There are 3."),
        Message("user", "And here?", (noise(4),)),
    ),
}


@pytest.fixture(params=tiny.ALL_KINDS)
def kind(request: pytest.FixtureRequest, opened: Callable[[str], Tiny]) -> Tiny:
    return opened(request.param)


def generated(continuation: Continuation, tiny_model: Tiny) -> list[int]:
    """Its tokens and the end token, if that ended it: what `generate` returns."""
    end = [tiny_model.processor.tokenizer.eos_token_id] if continuation.finish == "eos" else []
    return [*continuation.tokens, *end]


async def all_cases(model: LocalModel, n: int, sampling: Sampling) -> list[list[Continuation]]:
    return await asyncio.gather(*(model.sample(Prompt(case), n, sampling) for case in CASES.values()))


async def test_greedy_is_what_transformers_generates(kind: Tiny) -> None:
    expected = [kind.generate(case, GREEDY.max_tokens) for case in CASES.values()]
    assert len({tuple(tokens) for tokens in expected}) > len(CASES) - 2, "the tiny model says the same of all"
    for model in (kind.model, kind.alone):
        for case, continuations, tokens in zip(
            CASES, await all_cases(model, 2, GREEDY), expected, strict=True
        ):
            for continuation in continuations:
                assert generated(continuation, kind) == tokens, (case, model is kind.model)


async def test_greedy_with_a_repetition_penalty_is_what_transformers_generates(kind: Tiny) -> None:
    if "cross_attention_layers" in kind.network.config.get_text_config().to_dict():
        # transformers looks for the logit of the image token, which this architecture does not have.
        cases = {name: case for name, case in CASES.items() if "no image" in name or "without" in name}
    else:
        cases = CASES
    expected = [kind.generate(case, 24, repetition_penalty=1.3) for case in cases.values()]
    plain = [kind.generate(case, 24) for case in cases.values()]
    assert expected != plain
    sampling = replace(GREEDY, repetition_penalty=1.3)
    for model in (kind.model, kind.alone):
        for _ in range(2):  # at the second time, tokens are guessed
            found = await asyncio.gather(
                *(model.sample(Prompt(case), 2, sampling) for case in cases.values())
            )
            for continuations, tokens in zip(found, expected, strict=True):
                assert all(generated(continuation, kind) == tokens for continuation in continuations)


async def test_a_prompt_has_as_many_tokens_as_transformers_makes_of_it(kind: Tiny) -> None:
    for case in CASES.values():
        assert kind.model.count_tokens(Prompt(case)) == kind.inputs(case)["input_ids"].shape[1]


async def test_a_prefix_by_its_ids_goes_on_as_if_never_stopped(kind: Tiny) -> None:
    async def in_steps(case: tuple[Message, ...]) -> list[int]:
        tokens: tuple[int, ...] = ()
        while len(tokens) < GREEDY.max_tokens:
            prompt = Prompt(case, "", tokens)
            found = (await kind.model.sample(prompt, 3, replace(GREEDY, max_tokens=5)))[2]
            tokens += found.tokens
            if found.finish == "eos":
                break
        return list(tokens[: GREEDY.max_tokens])

    whole = await all_cases(kind.model, 1, GREEDY)
    steps = await asyncio.gather(*(in_steps(case) for case in CASES.values()))
    assert steps == [list(found[0].tokens) for found in whole]


@pytest.mark.parametrize("options", [{}, {"top_k": 15, "min_p": 0.02, "repetition_penalty": 1.2}])
async def test_samples_do_not_depend_on_what_shares_their_batch(kind: Tiny, options: dict[str, Any]) -> None:
    sampling = Sampling(temperature=1.0, top_p=0.95, max_tokens=16, seed=7, **options)
    crowd = await all_cases(kind.model, 3, sampling)
    texts = {tuple(continuation.tokens) for found in crowd for continuation in found}
    assert len(texts) > 2 * len(CASES), "the samples hardly differ"
    for case, found in zip(CASES.values(), crowd, strict=True):
        by_itself = await kind.alone.sample(Prompt(case), 3, sampling)
        for one, other in zip(found, by_itself, strict=True):
            assert replace(one, logprob=0) == replace(other, logprob=0)
            assert one.logprob == pytest.approx(other.logprob, abs=2e-3)


@pytest.mark.parametrize(
    ("temperature", "options"),
    [(0.0, {}), (1.0, {}), (1.0, {"top_k": 30, "min_p": 0.001, "repetition_penalty": 1.05})],
)
async def test_tokens_that_were_guessed_are_those_that_would_have_been_drawn(
    kind: Tiny, temperature: float, options: dict[str, Any]
) -> None:
    sampling = Sampling(temperature, top_p=0.95, max_tokens=40, seed=3, **options)
    expected = [await kind.alone.sample(Prompt(case), 2, sampling) for case in CASES.values()]
    assert kind.alone.stats.guessed == 0
    before = replace(kind.model.stats)
    for _ in range(2):  # at the second time, all was seen before
        for case, known in zip(CASES.values(), expected, strict=True):
            found = await kind.model.sample(Prompt(case), 2, sampling)
            assert [one.tokens for one in found] == [one.tokens for one in known]
    guessed = kind.model.stats.guessed - before.guessed
    accepted = kind.model.stats.accepted - before.accepted
    assert 0 < accepted < guessed, "no guess came true, or all did: this shows little"


async def test_choose_gives_the_networks_log_probabilities(kind: Tiny) -> None:
    options = (" 1", " 2", " response 1 is better", "z")
    tokenizer = kind.processor.tokenizer
    for case in CASES.values():
        inputs = kind.inputs(case)
        expected = []
        for option in options:
            ids = torch.tensor([tokenizer.encode("I choose" + option, add_special_tokens=False)])
            start = len(tokenizer.encode("I choose", add_special_tokens=False))
            longer = {**inputs, "input_ids": torch.cat([inputs["input_ids"], ids], 1)}
            for name in ("attention_mask", "mm_token_type_ids", "cross_attention_mask"):
                if name in inputs:
                    last = inputs[name][:, -1:]
                    last = torch.zeros_like(last) if name == "mm_token_type_ids" else last
                    more = last.expand(-1, ids.shape[1], *last.shape[2:])
                    longer[name] = torch.cat([inputs[name], more], 1)
            with torch.no_grad():
                logits = kind.network(**longer).logits[0, -ids.shape[1] - 1 : -1].log_softmax(-1)
            expected.append(float(logits.gather(1, ids.T)[start:].sum()))
        for model in (kind.model, kind.alone):
            assert await model.choose(Prompt(case, "I choose"), options) == pytest.approx(expected, abs=1e-3)


async def test_the_image_is_seen(kind: Tiny) -> None:
    seen = [
        await kind.model.choose(Prompt.of("How many?", images), ("a", "b"))
        for images in ((noise(1),), (noise(2),), (), (noise(1), noise(2)))
    ]
    assert all(abs(x[0] - y[0]) > 1e-3 for i, x in enumerate(seen) for y in seen[:i])


async def test_an_image_is_encoded_once(kind: Tiny) -> None:
    picture = noise(99)
    before = kind.model.stats.encodings
    await asyncio.gather(*(kind.model.sample(Prompt.of(text, (picture,)), 4, GREEDY) for text in ("a", "b?")))
    await kind.model.sample(Prompt.of(LONG, (picture,)), 2, replace(GREEDY, temperature=1))
    await kind.model.choose(Prompt.of("Which?", (picture,), "I choose"), (" 1", " 2"))
    assert kind.model.stats.encodings == before + 1


async def test_the_winners_cache_serves_what_follows(kind: Tiny) -> None:
    prompt = Prompt.of(LONG, (noise(5),))
    first = (await kind.model.sample(prompt, 2, replace(GREEDY, max_tokens=12)))[0]
    before = kind.model.stats.prefill_tokens
    await kind.model.sample(replace(prompt, prefix_tokens=first.tokens), 2, GREEDY)
    # The last token of a sample was drawn, not run.
    assert kind.model.stats.prefill_tokens == before + 1


async def test_a_model_that_goes_by_the_length_of_the_cache_runs_alone(
    opened: Callable[[str], Tiny], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Llama 4 would without the engine's own places."""
    kind = opened("llama4")
    assert kind.model._engine._max_rows > 1
    monkeypatch.setattr(Network, "_scale_queries", lambda self: False)
    model = LocalModel(kind.folder, device="cpu")
    assert model._engine._max_rows == 1
    expected = [kind.generate(case, GREEDY.max_tokens) for case in CASES.values()]
    for continuations, tokens in zip(await all_cases(model, 2, GREEDY), expected, strict=True):
        assert all(generated(continuation, kind) == tokens for continuation in continuations)
    model.close()
