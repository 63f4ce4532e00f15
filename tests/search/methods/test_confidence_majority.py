"""confidence-majority: its votes by hand, where it stops against trying all, and its samples."""

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import run_method, tagged

from llava_cot.core.trace import Candidate, Trace
from llava_cot.errors import ModelError, RequestError
from llava_cot.models.base import Continuation, OnText, Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.methods.confidence_majority import FIRST, SHARE, confidence, needed
from llava_cot.search.request import check_model

Said = tuple[str, float]  # a conclusion ("" for none), and the confidence in it


class Sure(ScriptedModel):
    """Writes these conclusions in turn, with these geometric means of its tokens' probabilities."""

    def __init__(self, said: Sequence[Said]) -> None:
        texts = [tagged("conclusion", text) if text else tagged("caption", "cut") for text, _ in said]
        self.left = iter(texts)
        self.sure = iter([share for _, share in said])
        super().__init__(lambda prompt, rng: next(self.left))

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        found = await super().sample(prompt, n, sampling, on_text)
        return [
            Continuation(
                one.text, one.tokens, len(one.tokens) * math.log(next(self.sure)), one.finish,
                one.prompt_tokens, one.completion_tokens,
            )
            for one in found
        ]  # fmt: skip


async def run(model: ScriptedModel, n: int, method: str = "confidence-majority", seed: int = 5) -> Trace:
    return await run_method(method, model, n=n, sampling=Sampling(max_tokens=99, seed=seed))


@pytest.mark.parametrize(
    ("said", "chosen"),
    [
        ([("2", 0.4), ("2", 0.4), ("3", 0.9)], 2),  # 0.9 against 0.8, though there are more of the other
        ([("2", 0.4), ("2", 0.6), ("3", 0.9)], 1),  # 1.0 against 0.9; the surer one of the two
        ([("2", 0.5), ("Two.", 0.6), ("3", 0.9)], 1),  # they mean the same
        ([("", 0.9), ("", 0.9), ("3", 0.1)], 2),  # a sample without an answer does not vote
        ([("", 0.2), ("", 0.9), ("", 0.3)], 1),
        ([("5", 0.1)], 0),
    ],
)
async def test_votes_by_hand(said: list[Said], chosen: int) -> None:
    trace = await run(Sure(said), len(said))
    assert trace.chosen == (chosen,)
    assert (trace.judge, trace.scores, trace.verdicts) == (None, (), ())


def stops_after(said: Sequence[Said]) -> int:
    """One at a time: the first number of samples after which an answer has the share of the weight."""
    for count in range(1, len(said) + 1):
        votes = [(text, weight) for text, weight in said[:count] if text]
        sums = [sum(w for text, w in votes if text == answer) for answer in {text for text, _ in votes}]
        if len(votes) >= FIRST and max(sums) >= SHARE * sum(sums):
            return count
    return len(said)


@pytest.mark.parametrize("n", [1, 4, 5])
async def test_it_stops_where_looking_after_each_sample_would(n: int) -> None:
    kinds = [("a", 0.9), ("a", 0.3), ("b", 0.01), ("", 0.5)]
    counts = set()
    for said in itertools.product(kinds, repeat=n):
        trace = await run(Sure([*said, ("x", 0.5)]), n)
        counts.add(len(trace.candidates))
        assert len(trace.candidates) == stops_after(said), said
        assert trace.usage.model_calls == len(trace.candidates)
        seen = said[: len(trace.candidates)]
        weights = {answer: sum(w for text, w in seen if text == answer) for answer, _ in seen if answer}
        assert not weights or weights[str(trace.answer)] == max(weights.values())
    assert counts == {1: {1}, 4: {4}, 5: {4, 5}}[n]


@given(st.lists(st.tuples(st.sampled_from("aab-"), st.integers(1, 9)), max_size=12))
def test_no_step_goes_past_where_one_could_stop(cast: list[tuple[str, int]]) -> None:
    """Fewer further votes than are needed are not enough, even if all weigh 1 and are for one answer."""
    ballots = ["" if text == "-" else text for text, _ in cast]
    weights = [tenths / 10 for _, tenths in cast]
    for more in range(needed(ballots, weights)):
        for leader in ("a", "b", "new"):
            assert needed([*ballots, *[leader] * more], [*weights, *[1.0] * more])


def undecided(prompt: Prompt, rng: random.Random) -> str:
    return tagged("caption", str(rng.random())) + tagged("conclusion", rng.choice("aaaaab"))


async def test_its_samples_are_those_of_majority() -> None:
    counts = set()
    for seed in range(30):
        mine = await run(ScriptedModel(undecided), 9, seed=seed)
        voted = await run(ScriptedModel(undecided), 9, "majority", seed)
        assert mine.candidates == voted.candidates[: len(mine.candidates)]
        counts.add(len(mine.candidates))
    assert counts == {FIRST, 9}


def continued(**fields: Any) -> Candidate:
    return Candidate(id=0, parent=None, round=0, stage="answer", finish="eos", **fields)


def test_confidence_is_the_geometric_mean() -> None:
    logprob = math.log(0.5) + math.log(0.02)  # the mean of 0.5 and 0.02 is 0.1
    known = continued(text="a b", tokens=(1, 2), logprob=logprob, completion_tokens=3)
    assert confidence(known) == pytest.approx(0.1)
    assert confidence(known.model_copy(update={"tokens": ()})) == pytest.approx(0.01 ** (1 / 3))


async def test_a_model_without_log_probabilities_is_refused() -> None:
    with pytest.raises(ModelError, match="needs log-probabilities, which this model does not give"):
        await run(ScriptedModel(undecided, ids=False), 4)

    class Silent:
        name, logprobs = "silent", False

    with pytest.raises(RequestError, match="confidence-majority needs log-probabilities, which silent does"):
        check_model("confidence-majority", None, Silent())
