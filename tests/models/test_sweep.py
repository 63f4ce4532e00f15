"""Every architecture: what the engine writes is what transformers generates, batched and shared or not.

`SWEEP` chooses the types: `all`, one of eight parts by a number (modulo 8), or names separated by commas.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import ANY

import pytest
from opening import Tiny, noise, open_folder
from sweep.registry import TinyType, all_types, chosen
from sweep.table import refusal, written
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from llava_cot import ask
from llava_cot.core.stages import make_format
from llava_cot.core.trace import Trace
from llava_cot.models.base import Continuation, Message, Prompt, Sampling
from llava_cot.models.local.model import LocalModel

GREEDY = Sampling(temperature=0, max_tokens=16)
LONG = "What color is the small metal sphere left of the cube, and how many objects are there? " * 2
TURNS = (
    Message("user", "How many?", (noise(1),)),
    Message("assistant", "There are 3."),
    Message("user", "Which of them?"),
)
CASES: dict[str, tuple[Message, ...]] = {
    "a picture": (Message("user", "How many?", (noise(1),)),),
    "a tall picture": (Message("user", "How many?", (noise(3, 30, 80),)),),
    "two pictures": (Message("user", "Which?", (noise(1), noise(2, 34, 34))),),
    "no picture": (Message("user", "How many?"),),
    "a long text": (Message("user", LONG, (noise(1),)),),
    "newlines": (Message("user", "\n\n\nHow many?\n", (noise(1),)),),
    "two turns": (Message("system", "Be brief."), *TURNS),
}
# Tags that noise has now and then, so that a search on it has several stages.
NOISY = make_format("look=a e,think=o r,answer=i s")


def cases_of(tiny_type: TinyType) -> dict[str, tuple[Message, ...]]:
    cases = {**CASES, "two turns": TURNS} if "a system turn" in tiny_type.without else CASES
    return {name: case for name, case in cases.items() if name not in tiny_type.without}


def params_of(*, refused: bool) -> list[Any]:
    return [
        pytest.param(tiny_type, id=tiny_type.name, marks=pytest.mark.xdist_group(tiny_type.name))
        for tiny_type in chosen()
        if tiny_type.refused == refused
    ]


def skip_without_packages(tiny_type: TinyType) -> None:
    if missing := tiny_type.missing:
        pytest.skip(f"{tiny_type.name} needs {', '.join(missing)}")


@pytest.fixture(scope="module", params=params_of(refused=False))
def kind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Tiny, dict[str, tuple[Message, ...]]]]:
    """A type's checkpoint, opened in every way, and the cases that it has."""
    skip_without_packages(request.param)
    opened = open_folder(request.param.save(tmp_path_factory.mktemp(request.param.name)))
    yield opened, cases_of(request.param)
    opened.model.close()
    opened.alone.close()


async def sample_all(
    model: LocalModel, cases: dict[str, tuple[Message, ...]], n: int, sampling: Sampling
) -> list[list[Continuation]]:
    return await asyncio.gather(*(model.sample(Prompt(case), n, sampling) for case in cases.values()))


def nearly(value: Any) -> Any:
    """What a trace's value is equal to when computed in another order, at another time."""
    if isinstance(value, dict):
        return {name: ANY if name == "seconds" else nearly(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(nearly, value))
    return pytest.approx(value, abs=2e-3) if isinstance(value, float) else value


async def test_greedy_is_what_transformers_generates(kind: tuple[Tiny, Any]) -> None:
    opened, cases = kind
    expected = [opened.generate(case, GREEDY.max_tokens) for case in cases.values()]
    assert len(set(map(tuple, expected))) > len(cases) - 2, "the tiny model says the same of all"
    found = await sample_all(opened.model, cases, 1, GREEDY)
    for case, (continuation,), tokens in zip(cases, found, expected, strict=True):
        inputs = opened.inputs(cases[case])["input_ids"]
        assert opened.model.count_tokens(Prompt(cases[case])) == inputs.shape[1], case
        end = [tokens[-1]] if continuation.finish == "eos" else []
        assert [*continuation.tokens, *end] == tokens, case


async def test_samples_do_not_depend_on_what_shares_their_batch(kind: tuple[Tiny, Any]) -> None:
    opened, cases = kind
    sampling = Sampling(temperature=1.0, top_p=0.95, max_tokens=12, seed=8)
    crowd = await sample_all(opened.model, cases, 2, sampling)
    assert len({found.tokens for some in crowd for found in some}) > len(cases), "the samples hardly differ"
    for (name, case), some in zip(cases.items(), crowd, strict=True):
        for one, other in zip(some, await opened.alone.sample(Prompt(case), 2, sampling), strict=True):
            assert replace(one, logprob=0) == replace(other, logprob=0), name
            assert one.logprob == pytest.approx(other.logprob, abs=2e-3), name


async def test_a_search_is_the_same_with_and_without_sharing(kind: tuple[Tiny, Any]) -> None:
    opened, _ = kind
    sampling = Sampling(seed=1, temperature=1.0, top_p=1.0, max_tokens=24)

    async def search(model: LocalModel) -> dict[str, Any]:
        trace: Trace = await ask(
            model,
            noise(5).pil,
            "How many objects are there?",
            method="stage-beam",
            judge="logits",
            n=2,
            sampling=sampling,
            fmt=NOISY,
        )
        assert trace.verdicts
        return trace.model_dump()

    assert await search(opened.model) == nearly(await search(opened.alone))


async def test_cases_are_left_out_where_transformers_refuses_them(kind: tuple[Tiny, Any]) -> None:
    opened, cases = kind
    for name in CASES.keys() - cases.keys():
        with pytest.raises((ValueError, TypeError, AttributeError)):
            opened.generate(CASES[name], 1)


@pytest.mark.parametrize("tiny_type", params_of(refused=True))
def test_the_page_has_the_words_of_a_refusal(tiny_type: TinyType) -> None:
    skip_without_packages(tiny_type)
    assert refusal(tiny_type) == written()[tiny_type.name]


def test_every_type_is_on_the_page() -> None:
    """It is written anew by `make sweep`."""
    types = all_types()
    assert list(written()) == sorted(types, key=lambda name: (types[name].refused, name))
    assert set(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES) <= set(types)
