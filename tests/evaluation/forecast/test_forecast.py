"""From a model to a forecast: pools are sampled once, judged, and foretell what the methods then score."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from math import sqrt
from pathlib import Path
from statistics import fmean

import known_tree
import pytest
from eval_runs import entry
from known_tree import FMT, RIGHT, beam_value, read_path, value, whole_value
from playing import registering

from llava_cot.core.question import Question
from llava_cot.core.trace import Candidate, Usage
from llava_cot.errors import DataError, StoreError
from llava_cot.evaluation.benchmarks import RULES
from llava_cot.evaluation.forecast.advice import advise, confirming_command
from llava_cot.evaluation.forecast.candidate_tree import PoolSizes
from llava_cot.evaluation.forecast.forecast import Forecast, make_forecast
from llava_cot.evaluation.forecast.forecast_plan import (
    ForecastFolder,
    ForecastPlan,
    is_complete,
    stored_pool,
)
from llava_cot.evaluation.forecast.forecast_run import sample_and_judge
from llava_cot.evaluation.forecast.pool_results import read_results
from llava_cot.evaluation.plan import EvalPlan
from llava_cot.evaluation.results import RunResults
from llava_cot.evaluation.run import evaluate
from llava_cot.evaluation.types import Benchmark, BenchmarkItem
from llava_cot.models.base import Sampling
from llava_cot.models.endpoint.config import Price
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.judges.base import Judge, JudgeScore, Preference, judge
from llava_cot.search.request import parse_spec
from llava_cot.search.resources import Resources
from llava_cot.view.forecast_page import forecast_plot, method_table, stage_table

COUNT = 120
SIZES = PoolSizes(4, 2, 2)


@pytest.fixture(autouse=True)
def judges() -> Iterator[None]:
    """`truthful` scores by the true value of a path, `comparing` prefers by it, and costs tokens."""
    with registering():

        @judge("truthful")
        class Truthful(Judge):
            async def score(
                self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
            ) -> JudgeScore:
                usage = Usage(prompt_tokens=9, completion_tokens=1, model_calls=1)
                return JudgeScore(value(read_path(context + candidate.text)), usage=usage)

        @judge("comparing")
        class Comparing(Judge):
            async def prefer(
                self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
            ) -> Preference:
                x, y = (value(read_path(context + one.text)) for one in (a, b))
                return Preference(1 if x > y else 2, usage=Usage(completion_tokens=3, model_calls=1))

        yield


def benchmark(count: int = COUNT, first: int = 0) -> Benchmark:
    items = [BenchmarkItem(f"q/{i}", f"What is it? {i}", (), RIGHT) for i in range(first, first + count)]
    return Benchmark("known", "Known", "", lambda: iter(items), RULES["exact"])


def plan(count: int = COUNT, *names: str, sizes: PoolSizes = SIZES) -> ForecastPlan:
    requests = {
        name: parse_spec(f"best-of-2@{name}").request(Sampling(), FMT) for name in names or ("truthful",)
    }
    return ForecastPlan(benchmark(count), "known", requests, limit=count, sizes=sizes)


async def forecast(path: Path, wanted: ForecastPlan, model: ScriptedModel | None = None) -> Forecast:
    with ForecastFolder(path) as folder:
        folder.match_settings(wanted.settings())
        if model is not None:
            await sample_and_judge(folder, wanted, model, Resources(), 8)
        assert is_complete(folder, wanted)
        return make_forecast(wanted, read_results(folder, wanted), Price(input=1, output=10))


def near(score: float, truth: float, count: int = COUNT) -> bool:
    """Within four standard errors of a share, which those of the estimates do not exceed by much."""
    return abs(score / 100 - truth) < 4 * 0.5 / sqrt(count)


def ideal(path: tuple[str, ...]) -> float:
    return value(path)


async def test_a_forecast_foretells_what_methods_score_and_cost(tmp_path: Path) -> None:
    found = await forecast(tmp_path / "pool", plan(COUNT, "truthful", "comparing"), known_tree.model())
    assert near(found.method("single").score.value, value())
    for name in ("truthful", "comparing"):
        assert near(found.method(f"best-of-4@{name}").score.value, whole_value(4, ideal))
        assert near(found.method(f"stage-beam-2@{name}").score.value, beam_value(2, ideal))
        assert near(found.method(f"stage-beam-4@{name}").score.value, beam_value(4, ideal))
        *_, last, whole = [one.ordered for one in found.judges if one.judge == name]
        assert last is not None and whole is not None and (last.value, whole.value) == (100, 100)
    assert near(found.one_of[4].value, 1 - (1 - value()) ** 4)
    specs = ("stage-beam-4@truthful", "best-of-4@comparing", "majority-4", "weighted-best-of-4@truthful")
    run = EvalPlan(
        (benchmark(300, 1000),), (entry(known_tree.model()),), tuple(map(parse_spec, specs)), fmt=FMT
    )
    await asyncio.to_thread(evaluate, tmp_path / "runs", run)
    with RunResults([tmp_path / "runs"]) as results:
        for key in results.runs:
            measured, expected = results.results(key), found.method(key.method)
            tokens = fmean(one.usage.completion_tokens for one in measured)
            assert expected.tokens == pytest.approx(tokens, rel=0.08), key
            score = fmean(one.score.value for one in measured)
            assert abs(expected.score.value / 100 - score) < 4 * 0.5 * sqrt(1 / 300 + 1 / COUNT), key


async def test_nothing_is_sampled_again_for_another_judge_or_more_questions(tmp_path: Path) -> None:
    model = known_tree.model()
    first = await forecast(tmp_path, plan(6), model)
    assert await forecast(tmp_path, plan(6)) == first
    calls = len(model.calls)
    with_both = await forecast(tmp_path, plan(6, "truthful", "comparing"), model)
    assert len(model.calls) == calls
    assert with_both.method("stage-beam-4@truthful") == first.method("stage-beam-4@truthful")
    more = await forecast(tmp_path, plan(9), model)
    assert more.questions == 9 and len(model.calls) == calls * 9 / 6
    with pytest.raises(StoreError, match="samples"):
        await forecast(tmp_path, plan(6, sizes=PoolSizes(2, 1, 2)), model)


async def test_the_pool_has_the_sizes_that_were_asked_for(tmp_path: Path) -> None:
    wanted = plan(3)
    await forecast(tmp_path, wanted, known_tree.model())
    with ForecastFolder(tmp_path) as folder:
        for item in wanted.items():
            stored = folder.get(item.id, "pool")
            assert stored is not None
            pool = stored_pool(wanted, item, stored)
            nodes = list(pool.tree.nodes())
            assert [node.stage for node in nodes].count("answer") == 4
            assert len(nodes) == 1 + 2 + 4 and all(len(node.candidates) == 4 for node in nodes)
            for node in nodes:
                path = "".join(one.text for one in node.path)
                for one in node.candidates:
                    assert len(one.outcomes) == (1 if node.stage == "answer" else 2)
                    assert len(read_path(path + one.candidate.text)) == FMT.names.index(node.stage) + 1
            assert all(one.ends for one in pool.answers.candidates) and set(pool.ballots) <= {"7", "5"}


async def test_advice_and_what_is_shown(tmp_path: Path) -> None:
    found = await forecast(tmp_path / "good", plan(), known_tree.model())
    advice = advise(found)
    assert parse_spec(advice.spec).judge == "truthful" and advice.sentence.startswith("Search with ")
    command = confirming_command("my questions.jsonl", "m", advice.spec, ["--top-k", "5"])
    assert command.startswith("llava-cot eval 'my questions.jsonl' --model m --method single --method greedy")
    assert advice.spec in command and "--top-k 5" in command
    methods, stages = list(method_table(found)), list(stage_table(found))
    assert any(line.startswith("| stage-beam-4@truthful | ") for line in methods)
    assert "| $ |" in methods[0] and len(stages) == 2 + 4
    assert {line.name for line in forecast_plot(found).lines} >= {"greedy", "majority", "stage-beam@truthful"}

    sure = ScriptedModel(
        lambda prompt, rng: known_tree.tagged(("good", "sound", RIGHT))[len(prompt.prefix) :], ids=False
    )
    found = await forecast(tmp_path / "sure", plan(20), sure)
    assert found.method("stage-beam-4@truthful").gain.value == 0
    assert advise(found).sentence.startswith("Do not search: one sample scores 100.0%, and one of 4 answers")


async def test_a_judge_that_knows_nothing_is_not_recommended(tmp_path: Path) -> None:
    @judge("foolish")
    class Foolish(Judge):
        async def score(
            self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
        ) -> JudgeScore:
            return JudgeScore(-value(read_path(context + candidate.text)))

    found = await forecast(tmp_path, plan(80, "foolish"), known_tree.model())
    assert near(
        found.method("stage-beam-4@foolish").score.value, beam_value(4, lambda path: -value(path)), 100
    )
    advice = advise(found)
    assert "foolish" not in advice.spec
    assert advice.spec.startswith("majority") or "Do not search with these judges" in advice.sentence


def test_sizes_that_allow_no_estimate_are_refused() -> None:
    for sizes in ((1, 1, 2), (4, 5, 2), (4, 0, 2), (4, 2, 1)):
        with pytest.raises(DataError, match="--"):
            PoolSizes(*sizes)
