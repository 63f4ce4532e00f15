"""adaptive-majority: where it stops, against trying all, and that its samples are those of majority."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import run_method, tagged

from llava_cot.core.trace import Trace
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.methods.adaptive_majority import STABLE, needed, stability


async def run(model: ScriptedModel, n: int, method: str = "adaptive-majority", seed: int = 5) -> Trace:
    return await run_method(method, model, n=n, sampling=Sampling(max_tokens=99, seed=seed))


def writes(answers: Iterator[str]) -> ScriptedModel:
    """A model whose samples say these in turn; "-" is none."""
    texts = (tagged("caption", "cut") if a == "-" else tagged("conclusion", a) for a in answers)
    return ScriptedModel(lambda prompt, rng: next(texts))


@given(st.integers(0, 40), st.integers(0, 40))
def test_stability_is_the_integral_of_the_beta_density(a: int, b: int) -> None:
    x = (np.arange(20_000) + 0.5) / 20_000
    density = np.exp(a * np.log(x) + b * np.log(1 - x) - np.log(0.5) * (a + b))
    assert stability(a, b) == pytest.approx(density[x > 0.5].sum() / density.sum(), abs=1e-5)


def test_stability_in_known_cases() -> None:
    assert [stability(a, a) for a in (0, 3, 50)] == [0.5] * 3
    assert [stability(a, 0) for a in (3, 4)] == [15 / 16, 31 / 32]  # four alike are enough
    assert stability(3000, 2900) == pytest.approx(0.9034, abs=1e-3)  # no overflow


def stops_after(answers: str) -> int:
    """One at a time, by the paper's rule: the first number of samples after which the majority is stable."""
    for count in range(1, len(answers) + 1):
        votes = Counter(answers[:count].replace("-", ""))
        a, b = ([number for _, number in votes.most_common(2)] + [0, 0])[:2]
        if stability(a, b) >= STABLE:
            return count
    return len(answers)


@pytest.mark.parametrize("n", [1, 3, 6])
async def test_it_stops_where_looking_after_each_sample_would(n: int) -> None:
    for answers in itertools.product("ab-", repeat=n):
        said = "".join(answers)
        model = writes(itertools.chain(answers, itertools.repeat("x")))
        trace = await run(model, n)
        assert len(trace.candidates) == stops_after(said), said
        assert trace.usage.model_calls == len(trace.candidates) == sum(call.n for call in model.calls)
        votes = Counter(said[: len(trace.candidates)].replace("-", ""))
        most = max(votes.values(), default=0)
        assert not votes or votes[str(trace.answer)] == most
        assert trace.n == n and trace.judge is None


@given(st.lists(st.sampled_from("aabc-"), min_size=1, max_size=30))
def test_no_step_goes_past_where_one_could_stop(answers: list[str]) -> None:
    """Whatever the next votes are, fewer than are needed are not enough."""
    votes = Counter(a for a in answers if a != "-")
    most = needed(votes)
    for more in range(most):
        for leader in ("a", "b", "c", "new"):
            later = votes + Counter({leader: more})
            first, second = ([number for _, number in later.most_common(2)] + [0, 0])[:2]
            assert stability(first, second) < STABLE
    if most and votes:
        assert not needed(votes + Counter({votes.most_common(1)[0][0]: most}))


def undecided(prompt: Prompt, rng: random.Random) -> str:
    return tagged("caption", str(rng.random())) + tagged("conclusion", rng.choice("aab"))


async def test_its_samples_are_majority_s_and_so_is_its_choice_at_the_most() -> None:
    stopped = 0
    for seed in range(60):
        mine = await run(ScriptedModel(undecided, ids=False), 9, seed=seed)
        voted = await run(ScriptedModel(undecided, ids=False), 9, "majority", seed)
        count = len(mine.candidates)
        assert mine.candidates == voted.candidates[:count]
        stopped += count < 9
        if count == 9:
            assert mine.chosen == voted.chosen
    assert 0 < stopped < 60


async def test_the_fewest_rounds() -> None:
    """Four at once, since four it takes; then as many as the two that differ from them make it take."""
    model = writes(iter("abab" + "a" * 20))
    trace = await run(model, 20)
    assert [(call.n, call.sampling.first) for call in model.calls] == [(4, 0), (6, 4)]
    assert stability(8, 2) >= STABLE > stability(7, 2)
    assert len({call.sampling.seed for call in model.calls}) == 1
    assert (trace.answer, len(trace.candidates)) == ("a", 10)


async def test_a_vote_that_nobody_casts_ends_at_the_most() -> None:
    trace = await run(writes(itertools.repeat("-")), 6)
    assert (len(trace.candidates), trace.answer) == (6, None)
