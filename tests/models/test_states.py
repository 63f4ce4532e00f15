"""A network with recurrent and convolution states: rows fork, leave and are continued with their states."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from opening import Tiny, noise, open_folder
from sweep.registry import all_types

from llava_cot.models.base import Message, Prompt, Sampling
from llava_cot.models.local.model import LocalModel

GREEDY = Sampling(temperature=0, max_tokens=12)
QUESTIONS = ("How many?", "What color is the small metal sphere?", "Which?")


def about(picture: int, question: str = QUESTIONS[0]) -> tuple[Message, ...]:
    return (Message("user", question, (noise(picture),)),)


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    opened = open_folder(all_types()["qwen3_5"].save(tmp_path_factory.mktemp("qwen3_5")))
    yield opened
    opened.model.close()
    opened.alone.close()


async def test_a_kept_candidate_is_continued_from_its_states(hybrid: Tiny) -> None:
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=9, seed=3)
    candidates = await hybrid.model.sample(Prompt(about(1)), 3, sampling)
    for kept in candidates:
        prompt = Prompt(about(1), "", kept.tokens)
        before = replace(hybrid.model.stats)
        [after] = await hybrid.model.sample(prompt, 1, GREEDY)
        # All but the last token was run when it was drawn.
        assert hybrid.model.stats.prefill_tokens - before.prefill_tokens == 1
        assert hybrid.model.stats.encodings == before.encodings
        [expected] = await hybrid.alone.sample(prompt, 1, GREEDY)
        assert after.tokens == expected.tokens


async def test_questions_about_a_picture_go_on_from_the_states_after_it(hybrid: Tiny) -> None:
    await hybrid.model.sample(Prompt(about(2)), 1, GREEDY)
    before = replace(hybrid.model.stats)
    asked = [Prompt(about(2, question)) for question in QUESTIONS]
    found = await asyncio.gather(*(hybrid.model.sample(prompt, 2, GREEDY) for prompt in asked))
    assert hybrid.model.stats.encodings == before.encodings
    for prompt, continuations in zip(asked, found, strict=True):
        expected = hybrid.generate(prompt.messages, GREEDY.max_tokens)
        assert [list(one.tokens) for one in continuations] == [expected, expected]


async def test_no_token_is_guessed(hybrid: Tiny) -> None:
    for _ in range(2):
        await hybrid.model.sample(Prompt(about(3)), 2, replace(GREEDY, max_tokens=24))
    assert hybrid.model.stats.guessed == 0


async def test_rows_that_leave_at_different_times_take_their_states_along(hybrid: Tiny) -> None:
    """The last row takes the place of one that leaves."""
    lengths = (2, 11, 5, 8, 3)

    async def one(length: int) -> tuple[int, ...]:
        sampling = Sampling(temperature=1.0, max_tokens=length, seed=length)
        return (await hybrid.model.sample(Prompt(about(4)), 1, sampling))[0].tokens

    together = await asyncio.gather(*map(one, lengths))
    for length, tokens in zip(lengths, together, strict=True):
        sampling = Sampling(temperature=1.0, max_tokens=length, seed=length)
        assert (await hybrid.alone.sample(Prompt(about(4)), 1, sampling))[0].tokens == tokens


async def test_little_memory_changes_nothing(hybrid: Tiny) -> None:
    small = LocalModel(hybrid.folder, device="cpu", cache_mb=1)
    sampling = Sampling(temperature=1.0, max_tokens=10, seed=5)
    prompts = [Prompt(about(picture, question)) for picture in (5, 6) for question in QUESTIONS]
    found = await asyncio.gather(*(small.sample(prompt, 6, sampling) for prompt in prompts))
    assert small.cache_bytes < 2**20
    for prompt, continuations in zip(prompts, found, strict=True):
        expected = await hybrid.alone.sample(prompt, 6, sampling)
        assert [one.tokens for one in continuations] == [one.tokens for one in expected]
    small.close()
