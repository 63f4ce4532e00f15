"""Budgets of tokens: how a share is spent, and that the whole is never exceeded by more than is said."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import QUESTION, WORDS, Referee, tagged

from llava_cot import ask, ask_sync
from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT
from llava_cot.core.trace import Candidate, Trace, Usage
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.budget import FLOOR, ROOM, first_limit, further
from llava_cot.search.judges.base import Judge, Opinion, Preference
from llava_cot.search.methods import METHODS

STAGES, TAGS = LLAVA_COT.names, LLAVA_COT.closing_tags


def words(count: int) -> str:
    return " ".join(["w"] * count)


class Talking(Judge):
    """Prefers the first, in so many tokens, and may check the reasoning; `written` is by stage."""

    name = "talking"

    def __init__(self, tokens: int, checks: bool = False) -> None:
        self.tokens = tokens
        self.checks = checks
        self.written = Counter[str]()

    async def check(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> Opinion | None:
        if not self.checks or stage != "reasoning":
            return None
        self.written[stage] += self.tokens
        return Opinion(None, "looked", Usage(model_calls=1, completion_tokens=self.tokens))

    async def prefer(
        self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
    ) -> Preference:
        self.written[stage] += self.tokens
        return Preference(1, "said", usage=Usage(model_calls=1, completion_tokens=self.tokens))


def staged(*lengths: int, spread: float = 0.0) -> ScriptedModel:
    """A stage of each length, its tags included, or up to so much longer or shorter."""

    def script(prompt: Prompt, rng: random.Random) -> str:
        done = sum(tag in prompt.prefix for tag in TAGS)
        left = [
            tagged(
                stage,
                words(max(1, round(length * rng.uniform(1 - spread, 1 + spread)) - 3)) + f" {rng.random()}",
            )
            for stage, length in list(zip(STAGES, lengths, strict=True))[done:]
        ]
        return " ".join(left)

    return ScriptedModel(script)


def counts(trace: Trace) -> list[int]:
    rounds = range(1 + max(c.round for c in trace.candidates))
    return [sum(c.round == number for c in trace.candidates) for number in rounds]


async def test_an_ample_budget_changes_nothing() -> None:
    for method in ("stage-beam", "best-of-n"):
        plain, within = [
            await ask(
                staged(9, 9, 9, 9, spread=0.5),
                None,
                "q",
                method=method,
                n=5,
                judge=Referee(len),
                sampling=Sampling(max_tokens=99),
                budget=budget,
            )
            for budget in (None, 5000)
        ]
        assert within.candidates == plain.candidates
        assert (within.verdicts, within.chosen) == (plain.verdicts, plain.chosen)
        assert (plain.budget, within.budget) == (None, 5000)


@pytest.mark.parametrize("reply", [0, 20])
async def test_each_stage_gets_an_equal_share_of_what_is_left(reply: int) -> None:
    """By hand: how many more each share pays for, with the judge's replies as they have been so far."""
    lengths, budget, most = (20, 60, 40, 10), 800, 6
    trace = await ask(
        staged(*lengths), None, QUESTION, method="stage-beam", n=most, judge=Talking(reply), budget=budget
    )
    left, heard, expected = budget, None, []
    for at, length in enumerate(lengths):
        share = left // (4 - at)
        more = min(most - 1, int((share - length) / (1.5 * length + (length if heard is None else heard))))
        expected.append(1 + more)
        left -= (1 + more) * length + more * reply
        heard = reply if more or heard is not None else None
    assert counts(trace) == expected
    assert trace.usage.completion_tokens == budget - left
    assert trace.usage.model_calls == sum(expected) + sum(expected) - 4
    assert trace.answer is not None and len(trace.chosen) == 4


async def test_where_nothing_is_left_each_stage_has_one_candidate_and_the_last_is_reached() -> None:
    model = staged(100, 100, 100, 100)
    trace = await ask(model, None, QUESTION, method="stage-beam", n=8, judge=Referee(len), budget=1)
    assert counts(trace) == [1, 1, 1, 1]
    assert [call.sampling.max_tokens for call in model.calls] == [FLOOR] * 4
    assert all(trace.stages.values())
    assert trace.usage.completion_tokens <= 4 * FLOOR


async def test_a_first_candidate_may_take_all_but_the_later_stages_floor() -> None:
    model = staged(150, 5, 5, 5)
    trace = await ask(model, None, QUESTION, method="stage-beam", n=4, judge=Talking(0), budget=300)
    assert model.calls[0].sampling.max_tokens == 300 - 3 * FLOOR
    assert counts(trace)[0] == 1 and counts(trace)[1:] == [4, 4, 4]
    assert "w " * 100 in str(trace.stages["summary"])


@given(
    st.lists(st.integers(4, 200), min_size=4, max_size=4),
    st.floats(0, 1),
    st.integers(1, 2000),
    st.integers(1, 9),
    st.sampled_from([0, 3, 50, 300]),
    st.booleans(),
    st.integers(0, 2**20),
    st.sampled_from(["stage-beam", "best-of-n", "majority"]),
)
@settings(max_examples=60, deadline=None)
def test_the_budget_is_exceeded_by_no_more_than_is_said(
    lengths: list[int],
    spread: float,
    budget: int,
    n: int,
    reply: int,
    checks: bool,
    seed: int,
    method: str,
) -> None:
    talking = Talking(reply, checks)
    judge = None if METHODS[method].judge is None else talking
    trace = ask_sync(
        staged(*lengths, spread=spread),
        None,
        "q",
        method=method,
        n=n,
        judge=judge,
        budget=budget,
        sampling=Sampling(seed=seed),
    )
    stages = 4 if method == "stage-beam" else 1
    most = max(talking.written.values(), default=0)
    assert trace.usage.completion_tokens <= max(budget, FLOOR * stages) + most
    assert all(1 <= count <= n for count in counts(trace))
    assert len(trace.chosen) == (len(counts(trace)) if method == "stage-beam" else 1)
    if method == "stage-beam":
        assert trace.candidates[trace.chosen[-1]].stage == "conclusion"


@given(st.integers(-500, 5000), st.integers(1, 8), st.integers(0, 400), st.floats(0, 300), st.integers(0, 99))
def test_the_rule(left: int, stages: int, length: int, reply: float, most: int) -> None:
    first = first_limit(left, stages)
    assert first >= FLOOR and first <= max(FLOOR, left)
    count, limit = further(left, stages, length, reply, most)
    assert 0 <= count <= most
    if count:
        assert limit >= int(ROOM * length) and limit >= 1  # no sample like the first is cut
        assert length + count * (ROOM * length + reply) <= left // stages + 1
        assert length + count * (limit + reply) <= left - FLOOR * (stages - 1) + 1


async def test_only_some_keep_to_a_budget() -> None:
    assert {name for name, kind in METHODS.items() if kind.budgeted} >= {
        "stage-beam",
        "majority",
        "best-of-n",
    }
    with pytest.raises(ValueError, match="single keeps to no budget"):
        await ask(staged(1, 1, 1, 1), None, "q", method="single", budget=10)
    assert set(WORDS) == set(STAGES)
