"""particle-filter: its chances against exact enumeration, and what it samples and scores."""

import itertools
import math
import random
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import run_method, tagged

from llava_cot.core.question import Question
from llava_cot.core.stages import make_format
from llava_cot.core.trace import Candidate, Trace
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.judges.base import Judge, JudgeScore
from llava_cot.search.methods.particle_filter import log_odds, resample
from llava_cot.search.methods.weighted import softmax

TWO = make_format("think,answer")


class Place(random.Random):
    """A generator whose one draw is known."""

    def __init__(self, place: float) -> None:
        super().__init__()
        self.place = place

    def random(self) -> float:
        return self.place


class Values(Judge):
    """Scores what a candidate ends with by a table."""

    name = "values"

    def __init__(self, values: dict[str, float], probability: bool = False) -> None:
        super().__init__()
        self.values, self.probability = values, probability

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        word = candidate.text.split("<answer>")[-1].replace("<think>", " ").split()[0]
        return JudgeScore(self.values[word])


@given(st.lists(st.integers(0, 12), min_size=1, max_size=7).filter(any))
def test_resampling_by_enumeration(parts: list[int]) -> None:
    """Over all places of the points: each index is drawn n times its weight, rounded up or down."""
    n, total = len(parts), sum(parts)
    counts: list[Counter[int]] = []
    for place in range(total):  # a drawing changes at multiples of 1 / total only: take the middles
        drawn = resample([part / total for part in parts], Place((place + 0.5) / total))
        assert drawn == sorted(drawn) and len(drawn) == n
        counts.append(Counter(drawn))
    for i, part in enumerate(parts):
        exact = Fraction(n * part, total)
        assert Fraction(sum(count[i] for count in counts), total) == exact
        assert {count[i] for count in counts} <= {math.floor(exact), math.ceil(exact)}
    assert all(count[parts.index(max(parts))] for count in counts)


def test_log_odds() -> None:
    assert [log_odds(p) for p in (0.5, 0.9, 0.1)] == pytest.approx([0, math.log(9), -math.log(9)])
    assert math.isfinite(log_odds(0.0)) and log_odds(1.0) == pytest.approx(-log_odds(0.0))


def chances(n: int, thoughts: dict[str, float], answers: dict[str, float], shares: dict[str, float]) -> float:
    """The exact chance of the answer "right", which the judge scores highest of all.

    Thoughts are equally likely, and after each a right answer has the chance `answers` says. `shares` are the
    weights of the thoughts before they are made to add up to 1.
    """
    chance = 0.0
    for drawn in itertools.product(thoughts, repeat=n):
        ordered = sorted(drawn, key=lambda thought: -thoughts[thought])
        total = sum(shares[thought] for thought in ordered)
        weights = [shares[thought] / total for thought in ordered]
        # A drawing changes where a point meets the end of a weight: try a place between any two such.
        ends = sorted({(n * sum(weights[:i])) % 1 for i in range(n)} | {0.0, 1.0})
        for low, high in itertools.pairwise(ends):
            kept = []
            for point in range(n):
                at = point + (low + high) / 2
                kept.append(next(i for i in range(n) if at < n * sum(weights[: i + 1]) or i == n - 1))
            wrong = math.prod(1 - answers[ordered[i]] for i in kept)
            chance += (high - low) * (1 - wrong) / len(thoughts) ** n
    return chance


@pytest.mark.parametrize("probability", [False, True])
async def test_the_chance_of_an_answer_is_the_exact_one(probability: bool) -> None:
    """The thought that the judge prefers rarely leads to the right answer, and the other one often."""
    answers = {"tempting": 0.1, "sound": 0.8}
    scores = {"tempting": 0.7, "sound": 0.4} if probability else {"tempting": 1.0, "sound": 0.0}
    shares = {
        thought: score / (1 - score) if probability else math.exp(score) for thought, score in scores.items()
    }

    def script(prompt: Prompt, rng: random.Random) -> str:
        if not prompt.prefix:
            return f"<think>{rng.choice(list(answers))} thought</think>"
        right = next(share for thought, share in answers.items() if thought in prompt.prefix)
        return f"<answer>{'right' if rng.random() < right else 'wrong'} one</answer>"

    judge = Values(scores | {"right": 0.9, "wrong": 0.1}, probability)
    runs, n = 1500, 3
    found = 0
    for seed in range(runs):
        trace = await run_method(
            "particle-filter", ScriptedModel(script), judge, n=n, sampling=Sampling(seed=seed), fmt=TWO
        )
        found += trace.answer == "right one"
    exact = chances(n, scores, answers, shares)
    assert abs(found / runs - exact) < 4 * math.sqrt(exact * (1 - exact) / runs)
    greedy = 1 - 0.5**3 * (1 - 0.8) ** 3 - (1 - 0.5**3) * (1 - 0.1) ** 3  # a beam that keeps the best only
    assert abs(found / runs - greedy) > 0.1


def counting(prompt: Prompt, rng: random.Random) -> str:
    stages = ("summary", "caption", "reasoning", "conclusion")
    begun = [f"<{stage.upper()}>" in prompt.prefix for stage in stages]
    return "\n".join(
        tagged(stage, f"{rng.random()}") for stage, b in zip(stages, begun, strict=True) if not b
    )


class ByDigit(Judge):
    name = "digit"

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        return JudgeScore(float(candidate.text.split()[1]) * 9)


async def run(n: int, seed: int = 0) -> Trace:
    return await run_method(
        "particle-filter", ScriptedModel(counting), ByDigit(), n=n, sampling=Sampling(seed=seed)
    )


@pytest.mark.parametrize("n", [1, 2, 5])
async def test_it_samples_n_a_stage_and_keeps_the_best_at_the_end(n: int) -> None:
    for seed in range(10):
        trace = await run(n, seed)
        assert [sum(c.round == i for c in trace.candidates) for i in range(4)] == [n] * 4
        if n == 1:
            assert not trace.scores
            continue
        last = {score.candidate: score.value for score in trace.scores if score.round == 3}
        assert len(last) == n and last[trace.chosen[-1]] == max(last.values())
        line = [trace.candidates[i] for i in trace.chosen]
        assert [c.parent for c in line] == [None, *trace.chosen[:-1]]


async def test_what_is_kept_is_what_resampling_draws() -> None:
    """The parents of a stage's candidates, against the scores of those before and one draw."""
    for seed in range(20):
        trace = await run(4, seed)
        values = {score.candidate: score.value for score in trace.scores}
        for before in range(3):
            particles = [c.id for c in trace.candidates if c.round == before]
            particles.sort(key=lambda i: -values[i])
            drawn = [c.parent for c in trace.candidates if c.round == before + 1]
            shares = softmax([values[i] for i in particles])
            counts = [drawn.count(i) for i in particles]
            assert all(
                math.floor(4 * w) <= k <= math.ceil(4 * w) for w, k in zip(shares, counts, strict=True)
            )


async def test_an_answer_that_has_ended_stays_as_it_is() -> None:
    def script(prompt: Prompt, rng: random.Random) -> str:
        if not prompt.prefix:
            return rng.choice(("done at once", "<think>more to say</think>"))
        return "<answer>better in the end</answer>"

    longer = "<think>more to say</think><answer>better in the end</answer>"
    judge = Values({"done": 0.0, "more": 0.0, "better": 5.0})
    lengths = set()
    for seed in range(20):
        trace = await run_method(
            "particle-filter", ScriptedModel(script), judge, n=3, sampling=Sampling(seed=seed), fmt=TWO
        )
        lengths.add(len(trace.candidates))
        whole = all(c.text == "done at once" for c in trace.candidates)
        assert trace.text == ("done at once" if whole else longer)
        if whole:
            assert len({score.round for score in trace.scores}) == 1
    assert min(lengths) == 3 and max(lengths) > 3
