"""What is sampled and scored for a calibration, and what of it counts."""

import random
from dataclasses import replace
from statistics import NormalDist

import pytest
from eval_runs import Moody, number, numbers
from made_traces import staged as made_trace
from playing import tagged

from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT
from llava_cot.core.trace import Candidate, Score
from llava_cot.errors import DataError, ModelError, ModelFailure
from llava_cot.evaluation.calibrate import ScoreSample, make_calibration, sample_scores, scores_in_traces
from llava_cot.models.base import Prompt, Sampling, seed_of
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.judges.base import Judge, JudgeScore
from llava_cot.search.request import make_request

STAGES, TAGS = LLAVA_COT.names, LLAVA_COT.closing_tags


class Reader(Judge):
    """Scores a candidate by the number in it, and notes what it was shown."""

    name = "reader"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        self.asked.append((stage, context, candidate.text))
        return JudgeScore(float(candidate.text.split()[1]))


def counts(prompt: Prompt, rng: random.Random) -> str:
    """Stage by stage, the question's number in each; a fifth of the questions have no reasoning."""
    which, done = int(number(prompt)), sum(tag in prompt.prefix for tag in TAGS)
    stages = [stage for stage in STAGES[done:] if stage != "reasoning" or which % 5]
    return "".join(tagged(stage, str(which)) for stage in stages) + (" more" if stages else "")


async def sample(model: ScriptedModel, judge: Judge, count: int, stage: str = "reasoning") -> ScoreSample:
    request = make_request("best-of-n", judge=judge, sampling=Sampling(seed=3))
    return await sample_scores(request, model, judge, numbers(count).items(), stage=stage, at_once=4)


async def test_the_stage_is_sampled_once_after_the_stages_before_it() -> None:
    model, judge = ScriptedModel(counts), Reader()
    found = await sample(model, judge, 11)
    assert found == ScoreSample((1, 2, 3, 4, 6, 7, 8, 9), 3)
    before = tagged("summary", "7") + tagged("caption", "7")
    assert ("reasoning", before, tagged("reasoning", "7")) in judge.asked
    assert {call.n for call in model.calls} == {1}
    assert len(model.calls) == 8 * 3 + 3 * 3  # the third sample of those without is a conclusion
    seeds = {random.Random(seed_of(3, f"numbers/{i}")).getrandbits(63) for i in range(11)}
    assert {call.sampling.seed for call in model.calls if not call.prompt.prefix} == seeds


async def test_another_stage() -> None:
    assert await sample(ScriptedModel(counts), Reader(), 3, "caption") == ScoreSample((0, 1, 2))


async def test_a_failure_is_retried_and_an_error_ends_the_calibration() -> None:
    failures = [ModelFailure("busy"), ModelFailure("busy")]
    model = Moody(counts, lambda prompt: failures.pop() if failures else None)
    assert (await sample(model, Reader(), 4)).scores == (1, 2, 3)
    with pytest.raises(ModelError, match="no way"):
        await sample(Moody(counts, lambda prompt: ModelError("no way")), Reader(), 4)


def test_scores_that_traces_hold_of_the_first_round_of_each() -> None:
    def score(value: float, round: int, stage: str = "reasoning", judge: str = "reader") -> Score:
        return Score(candidate=0, value=value, round=round, stage=stage, judge=judge)

    one = made_trace().model_copy(
        update={
            "scores": (score(9, 1, "caption"), score(1, 2), score(2, 2), score(3, 4), score(8, 2, judge="x"))
        }
    )
    two = one.model_copy(update={"model": "other", "scores": (score(5, 6),)})
    none = one.model_copy(update={"model": "third", "scores": ()})
    found, models = scores_in_traces([("a", one), ("b", two), ("c", none)], "reader", "reasoning")
    assert (found, models) == (ScoreSample((1, 2, 5), 1), f"{one.model}, other")


def test_mean_deviation_and_cut_off() -> None:
    made = make_calibration(ScoreSample((1.0, 2.0, 6.0)), "reader", "reasoning", model="m", seed=4)
    assert (made.judge, made.mean, made.count, made.stage, made.model) == ("reader", 3.0, 3, "reasoning", "m")
    assert made.deviation == pytest.approx(7**0.5)
    assert made.cut_off == pytest.approx(3 + 0.2533 * 7**0.5)
    spread = ScoreSample(tuple(NormalDist(5, 2).samples(20_000, seed=1)))
    cut = make_calibration(spread, "reader", "reasoning").cut_off
    assert sum(score > cut for score in spread.scores) / 20_000 == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ((), "no scores of the judge reader at the stage reasoning, and a calibration needs two"),
        ((1.0,), "one score of"),
        ((1.0, float("-inf")), "not a finite number"),
        ((1.0, float("nan")), "not a finite number"),
    ],
)
def test_too_little_to_go_by(scores: tuple[float, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_calibration(replace(ScoreSample(()), scores=scores), "reader", "reasoning")
