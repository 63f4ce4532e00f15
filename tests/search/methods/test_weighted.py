"""Weighted voting against brute force, and its cost."""

import math
import random
from collections.abc import Sequence
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import PICTURE, Rewarder, resources_for, tagged

from llava_cot import ask, open_model
from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT
from llava_cot.core.trace import Candidate, Trace
from llava_cot.models.base import Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.scenes.items import make_item
from llava_cot.search.judge_prompts import default_prompts
from llava_cot.search.judges.base import Judge, JudgeScore
from llava_cot.search.methods.majority import ballot
from llava_cot.search.methods.weighted import elect_weighted, softmax


class Marks(Judge):
    """Scores an answer by the mark in its caption."""

    name = "marks"

    def __init__(self, probability: bool) -> None:
        super().__init__()
        self.probability = probability

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        assert (stage, context) == ("answer", "")
        return JudgeScore(float(candidate.text.split("</CAPTION>")[0].split()[1]))


async def run(answers: Sequence[tuple[str, float]], probability: bool = True, seed: int = 0) -> Trace:
    """Of candidates with these conclusions (none if "") and marks."""
    left = [tagged("caption", str(m)) + (tagged("conclusion", c) if c else "") for c, m in answers]
    model = ScriptedModel(lambda prompt, rng: left.pop(0))
    return await ask(
        model,
        None,
        "q",
        method="weighted-best-of-n",
        judge=Marks(probability),
        n=len(answers),
        sampling=Sampling(seed=seed),
    )


@pytest.mark.parametrize(
    ("answers", "chosen"),
    [
        ([("3", 0.9), ("2", 0.5), ("2", 0.6)], 2),  # together they outweigh the best one
        ([("3", 0.9), ("2", 0.4), ("2", 0.4)], 0),  # and here they do not, though there are more
        ([("3", 0.2), ("Two.", 0.5), ("two", 0.5)], 1),
        ([("", 1.0), ("", 0.9), ("2", 0.0)], 2),
        ([("", 0.1), ("", 0.9)], 1),
        ([("5", 0.0)], 0),
    ],
)
async def test_the_greatest_sum_is_elected_and_its_best_kept(
    answers: list[tuple[str, float]], chosen: int
) -> None:
    for seed in range(3):
        trace = await run(answers, seed=seed)
        assert trace.chosen == (chosen,)
        assert [score.value for score in trace.scores] == [mark for _, mark in answers]
        assert (trace.method, trace.judge, trace.verdicts) == ("weighted-best-of-n", "marks", ())


async def test_scores_without_bounds_are_weighed_by_their_differences() -> None:
    """Negative ones, where a second vote would else count against an answer."""
    assert (await run([("2", -1.0), ("2", -1.0), ("3", -0.9)], probability=False)).answer == "2"
    assert (await run([("2", -1.0), ("2", -1.0), ("3", 0.5)], probability=False)).answer == "3"
    assert (await run([("2", 99.0), ("2", 99.0), ("3", 100.5)], probability=False)).answer == "3"


async def test_ties_are_settled_by_the_seed() -> None:
    tied = [("1", 0.5), ("2", 0.25), ("2", 0.25)]
    chosen = [(await run(tied, seed=seed)).answer for seed in range(20)]
    assert set(chosen) == {"1", "2"}
    assert chosen == [(await run(tied, seed=seed)).answer for seed in range(20)]


marks = st.lists(st.tuples(st.sampled_from(["", "a", "b", "c"]), st.integers(0, 8)), min_size=1, max_size=6)


@given(marks, st.integers(0, 9))
def test_by_brute_force(cast: list[tuple[str, int]], seed: int) -> None:
    ballots, weights = [b for b, _ in cast], [w / 8 for _, w in cast]
    elected = elect_weighted(ballots, weights, random.Random(seed))
    totals = {b: sum(w for c, w in cast if c == b) for b in ballots if b}
    assert elected == "" if not totals else totals[elected] == max(totals.values())


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6), st.floats(-50, 50))
def test_softmax(scores: list[float], shift: float) -> None:
    weights = softmax(scores)
    assert math.isclose(math.fsum(weights), 1)
    assert weights == pytest.approx(softmax([score + shift for score in scores]), abs=1e-6)
    for a, x in zip(scores, weights, strict=True):
        for b, y in zip(scores, weights, strict=True):
            assert min(x, y) < 1e-90 or math.isclose(math.log(y / x), b - a, rel_tol=1e-6, abs_tol=1e-6)
    assert softmax([-math.inf, -math.inf]) == [1, 1]
    assert softmax([-math.inf, 0.0]) == [0, 1]


async def test_cost_is_n_samples_and_a_score_for_each_different_text() -> None:
    """logits and reward: N + D calls, of which D <= N; the others: N."""
    texts = [tagged("conclusion", t) for t in ("1", "2", "1", "3", "1")]
    for judge, graded in (("logits", 3), ("reward", 3), ("rules", 0), ("likelihood", 0), ("verifier", 0)):
        left = list(texts)
        model = ScriptedModel(lambda prompt, rng, left=left: left.pop(0), lambda prompt, options: [0.0, -2.0])
        given = resources_for(judge)
        asked = Question("q", (PICTURE,), reference="1")
        trace = await ask(model, None, asked, method="weighted-best-of-n", judge=judge, n=5, resources=given)
        assert trace.usage.model_calls == 5 + graded
        assert len(trace.scores) == 5 and trace.answer == "1"
        assert [options for _, options in model.choices] == [default_prompts().verdicts] * (
            graded if judge == "logits" else 0
        )
        if isinstance(given.judge_model, Rewarder):
            assert sorted(answer for _, answer in given.judge_model.asked) == sorted(set(texts))
            assert (trace.judge_model, trace.usage.usd) == ("rewarder", 1.5)
        elif judge == "logits":
            assert trace.judge_model == "scripted"
            assert {score.value for score in trace.scores} == {1 / (1 + math.exp(-2.0))}
        else:
            assert trace.judge_model is None


async def test_mini_is_weighed_by_itself_and_by_rules() -> None:
    asked = make_item("validation", 0, 3).ask()
    with closing(open_model("mini")) as model:
        for judge in ("logits", "rules"):
            trace = await ask(model, None, asked, method="weighted-best-of-n", judge=judge, n=2)
            assert trace.answer and set(trace.stages) == set(LLAVA_COT.names)
            [chosen] = trace.chosen
            assert trace.scores[chosen].value == max(
                score.value
                for score, candidate in zip(trace.scores, trace.candidates, strict=True)
                if ballot(candidate.text, asked, LLAVA_COT) == ballot(trace.text, asked, LLAVA_COT)
            )
            assert all(0 <= score.value <= 1 for score in trace.scores)
