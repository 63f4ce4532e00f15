import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from llava_cot.models.base import Sampling
from llava_cot.models.local import sampler
from llava_cot.models.local.sampler import SeenTokens, Uniforms, draw

LOGITS = torch.tensor([[1.0, 3.0, 2.0, -1.0, 0.5], [0.0, 0.0, 5.0, 1.0, 1.0]])


def test_greedy_takes_the_likeliest_and_gives_its_log_probability() -> None:
    tokens, logprobs = draw(LOGITS, [Sampling(0, 0.9), Sampling(0, 1.0)], [0.99, 0.99])
    assert tokens == [1, 2]
    assert logprobs == pytest.approx(LOGITS.log_softmax(-1)[[0, 1], [1, 2]].tolist(), abs=1e-5)


def reference(logits: torch.Tensor, temperature: float, top_p: float) -> dict[int, float]:
    """Probabilities by the definition: temperature, then the smallest likeliest set that holds top-p."""
    probabilities = (logits.double() / temperature).softmax(-1)
    inside: dict[int, float] = {}
    for token in probabilities.argsort(descending=True).tolist():
        if sum(inside.values()) >= top_p:
            break
        inside[token] = float(probabilities[token])
    return {token: p / sum(inside.values()) for token, p in inside.items()}


@pytest.mark.parametrize("size", [5, 5000])  # all sorted; the likeliest sorted
@pytest.mark.parametrize(
    ("temperature", "top_p"), [(0.6, 0.9), (1.0, 1.0), (3.0, 0.5), (1e-6, 0.9), (50.0, 0.99)]
)
def test_draws_follow_the_distribution(size: int, temperature: float, top_p: float) -> None:
    logits = torch.randn(size, generator=torch.Generator().manual_seed(1)) * 3
    expected = reference(logits, temperature, top_p)
    grid = (np.arange(500) + 0.5) / 500
    tokens, logprobs = draw(logits.expand(500, -1), [Sampling(temperature, top_p)] * 500, list(grid))
    counts = {token: tokens.count(token) / 500 for token in set(tokens)}
    for token in counts.keys() | expected.keys():
        assert counts.get(token, 0) == pytest.approx(expected.get(token, 0), abs=0.005)
    assert logprobs == pytest.approx(logits.log_softmax(-1)[tokens].tolist(), abs=1e-4)


def test_rows_with_other_settings_change_nothing() -> None:
    logits = torch.randn(40, 3000, generator=torch.Generator().manual_seed(2)) * 4
    options = [
        Sampling(
            [0.0, 0.6, 1.0, 30.0][i % 4], [0.9, 1.0, 0.3][i % 3], top_k=[0, 0, 1, 70, 9999][i % 5], min_p=p
        )
        for i, p in enumerate([0.0, 0.0, 0.2, 0.0, 0.0, 0.0, 1.0, 1e-3] * 5)
    ]
    uniforms = [i / 40 for i in range(40)]
    together, _ = draw(logits, options, uniforms)
    alone = [draw(logits[i : i + 1], options[i : i + 1], uniforms[i : i + 1])[0][0] for i in range(40)]
    assert together == alone


def test_rounds_that_each_wait_for_the_device_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(20, 3000, generator=torch.Generator().manual_seed(6)) * 3
    options = [
        Sampling([0.0, 0.6, 2.0][i % 3], [0.5, 0.9, 1.0, 0.95][i % 4], top_k=[0, 50][i % 2], min_p=p)
        for i, p in enumerate([0.0, 0.01] * 10)
    ]
    expected = draw(logits, options, [i / 20 for i in range(20)])
    monkeypatch.setattr(sampler, "_rounds", lambda options, logits: [[8], [64], [logits.shape[-1]]])
    assert draw(logits, options, [i / 20 for i in range(20)]) == expected


@pytest.mark.parametrize(
    ("options", "rounds"),
    [
        ([Sampling(0.6, 0.9), Sampling(0)], [[1024], [5000]]),
        ([Sampling(1.0, 1.0), Sampling(0.6, 0.9)], [[5000]]),
        ([Sampling(1.0, 1.0, top_k=5), Sampling(0, 1.0)], [[1024], [5000]]),
    ],
)
def test_the_rounds_of_a_device(options: list[Sampling], rounds: list[list[int]]) -> None:
    assert sampler._rounds(options, torch.empty(2, 5000, device="meta")) == rounds


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_the_ends_of_the_interval_are_tokens(uniform: float) -> None:
    tokens, _ = draw(LOGITS, [Sampling(1.0, 1.0), Sampling(1.0, 0.9)], [uniform, uniform])
    assert all(0 <= token < 5 for token in tokens)


@pytest.mark.parametrize("top_p", [0.7, 1.0])
@pytest.mark.parametrize("size", [5, 5000])
def test_rows_that_may_draw_some_tokens_alone_follow_the_distribution_of_those(
    size: int, top_p: float
) -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(size, generator=generator) * 3
    some = torch.rand(size, generator=generator) < 0.3
    some[logits.argmax()], some[logits.argmin()] = False, True
    expected = reference(logits.masked_fill(~some, -torch.inf), 0.8, top_p)
    grid = [*((np.arange(499) + 0.5) / 499), 1 - 2**-53]
    allowed = (range(500), some.expand(500, -1))
    tokens, logprobs = draw(logits.expand(500, -1), [Sampling(0.8, top_p)] * 500, grid, allowed)
    assert set(tokens) <= set(some.nonzero()[:, 0].tolist())
    counts = {token: tokens.count(token) / 500 for token in set(tokens)}
    for token in counts.keys() | expected.keys():
        assert counts.get(token, 0) == pytest.approx(expected.get(token, 0), abs=0.005)
    assert logprobs == pytest.approx(logits.log_softmax(-1)[tokens].tolist(), abs=1e-4)


def test_what_a_row_may_draw_changes_no_other_row() -> None:
    logits = torch.randn(6, 700, generator=torch.Generator().manual_seed(5)) * 2
    settings = ([Sampling(0.0), Sampling(1.0)] * 3, [i / 6 for i in range(6)])
    few = torch.zeros(2, 700, dtype=torch.bool)
    few[:, 7:9] = True
    free, together = draw(logits, *settings), draw(logits, *settings, ([1, 4], few))
    for row in (0, 2, 3, 5):
        assert (together[0][row], together[1][row]) == (free[0][row], free[1][row])
    assert together[0][4] == 7 + int(logits[4, 8] > logits[4, 7])
    assert together[0][1] in (7, 8)


OPTIONS: list[dict[str, Any]] = [
    {"top_k": 1},
    {"top_k": 3, "temperature": 2.0},
    {"top_k": 40, "top_p": 0.8},
    {"top_k": 100_000},
    {"min_p": 0.1},
    {"min_p": 1.0},
    {"min_p": 0.02, "top_p": 0.7, "temperature": 1.5},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.5, "temperature": 3.0},
    {"repetition_penalty": 2.0, "top_k": 200, "top_p": 0.95, "min_p": 0.001, "temperature": 4.0},
]


@pytest.mark.parametrize("size", [5, 300, 5000])
@pytest.mark.parametrize("given", OPTIONS)
def test_the_options_equal_the_processors_of_transformers(given: dict[str, Any], size: int) -> None:
    sampling = Sampling(**{"temperature": 1.0, "top_p": 1.0} | given)
    generator = torch.Generator().manual_seed(size)
    logits = (torch.randn(size, generator=generator) * 3).bfloat16().float()  # with ties
    prompt = torch.randint(size, (50,), generator=generator)
    processors = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    processors.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        processors.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        processors.append(MinPLogitsWarper(sampling.min_p))
    expected = processors(prompt[None], logits[None].clone()).softmax(-1)[0]  # type: ignore[arg-type]
    rows = 2000
    seen = None
    if sampling.repetition_penalty != 1:
        masks = torch.from_numpy(SeenTokens(prompt.tolist(), size).masks())
        seen = (range(rows), masks.expand(rows, -1))
    grid = [*((np.arange(rows - 1) + 0.5) / (rows - 1)), 1 - 2**-53]
    tokens, logprobs = draw(logits.expand(rows, -1), [sampling] * rows, grid, seen=seen)
    counts = torch.bincount(torch.tensor(tokens), minlength=size) / rows
    assert not bool(counts[expected == 0].any())
    # Tokens of the same chance may be sorted otherwise, so that the counts are compared in order.
    assert counts.sort().values.tolist() == pytest.approx(expected.sort().values.tolist(), abs=1.5 / rows)
    assert logprobs == pytest.approx(logits.log_softmax(-1)[tokens].tolist(), abs=1e-4)


def test_greedy_rows_are_penalized_too_and_no_other_row_is() -> None:
    seen = SeenTokens([1, 2, 2, 99], 5)
    assert seen.masks([4]).tolist() == [[False, True, True, False, False], [False, True, True, False, True]]
    seen.take(0)
    assert seen.masks().tolist() == [[True, True, True, False, False]]
    options = [Sampling(0, repetition_penalty=4.0), Sampling(0)]
    logits = LOGITS[:1].expand(2, -1)
    tokens, logprobs = draw(logits, options, [0.5, 0.5], seen=([0], torch.from_numpy(seen.masks())))
    assert tokens == [1, 1] and logprobs[0] == logprobs[1]
    options[0] = Sampling(0, repetition_penalty=100.0)
    tokens, logprobs = draw(logits, options, [0.5, 0.5], seen=([0], torch.from_numpy(seen.masks())))
    assert tokens == [4, 1] and logprobs[0] == pytest.approx(float(LOGITS[0].log_softmax(-1)[4]))


def test_random_numbers_depend_on_the_seed_and_the_number_of_the_sample_alone() -> None:
    def first(seed: int, index: int) -> list[float]:
        return Uniforms(seed, index).at(0, 100)

    assert first(1, 2) == first(1, 2)
    assert len({tuple(first(seed, index)) for seed in (0, 1, 2**63 - 1, -1) for index in (0, 1)}) == 8
    assert all(0 <= number < 1 for number in first(0, 0))
    assert Uniforms(1, 2).at(70, 5) == first(1, 2)[70:75]


@pytest.mark.parametrize("penalty", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("temperature", [0.0, 1e-6, 1.0])
def test_no_penalty_makes_a_logit_infinite(penalty: float, temperature: float) -> None:
    logits = torch.tensor([[3e38, -1e30, 0.0], [1.0, -1.0, 0.0]])
    sampling = Sampling(temperature, 1.0, repetition_penalty=penalty)
    seen = [0, 1], torch.tensor([[True, True, False]] * 2)
    tokens, logprobs = draw(logits, [sampling] * 2, [0.5, 0.5], None, seen)
    assert tokens[0] == 0 and tokens[1] in (0, 1, 2)
    assert all(map(math.isfinite, logprobs))


@pytest.mark.parametrize("size", [5, 3000])
@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"min_p": 0.1}])
def test_a_row_that_is_not_a_number_changes_no_other_row(size: int, options: dict[str, Any]) -> None:
    logits = torch.randn(3, size, generator=torch.Generator().manual_seed(4))
    sampling = [Sampling(1.0, 0.9, **options)] * 3
    expected, _ = draw(logits, sampling, [0.1, 0.5, 0.9])
    logits[1] = torch.nan
    tokens, logprobs = draw(logits, sampling, [0.1, 0.5, 0.9])
    assert tokens[::2] == expected[::2] and 0 <= tokens[1] < size
    assert [math.isnan(logprob) for logprob in logprobs] == [False, True, False]
