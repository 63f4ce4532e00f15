"""Reading the pools of a folder: the estimates of each question, and what samples and judges took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llava_cot.core.trace import Trace
from llava_cot.errors import DataError
from llava_cot.evaluation.forecast.candidate_tree import PoolNode
from llava_cot.evaluation.forecast.forecast_plan import (
    JUDGMENTS,
    AnswerScores,
    ForecastFolder,
    ForecastPlan,
    stored_pool,
)
from llava_cot.evaluation.forecast.question_forecast import (
    GreedyAnswer,
    QuestionForecast,
    forecast_question,
    nodes_of,
)
from llava_cot.evaluation.forecast.winners import NodeJudgment
from llava_cot.evaluation.types import BenchmarkItem


@dataclass(frozen=True)
class PooledQuestion:
    """A question with what its pool says."""

    item: BenchmarkItem
    forecast: QuestionForecast


@dataclass(frozen=True)
class PoolResults:
    """The results of all questions that have a pool and all judgments.

    Attributes:
        questions: In the benchmark's order.
        missing: Questions on which the model or a judge failed.
        last_error: The last reason.
        seconds_a_token: Of sampling, while other questions were in flight.
        judge_seconds: By judge, seconds a call of it.
    """

    questions: Sequence[PooledQuestion]
    missing: int
    last_error: str | None
    seconds_a_token: float
    judge_seconds: Mapping[str, float]
    unsettled: int  # answers that comparing text did not decide, and which count as wrong


def read_results(folder: ForecastFolder, plan: ForecastPlan, last_error: str | None = None) -> PoolResults:
    """Estimate every method for each question of the folder that has all judgments.

    Raises DataError if there is none.
    """
    questions: list[PooledQuestion] = []
    missing, unsettled, tokens, wall = 0, 0, 0.0, 0.0
    judge_wall, judge_calls = dict.fromkeys(plan.requests, 0.0), dict.fromkeys(plan.requests, 0.0)
    for item in plan.items():
        entry = folder.get(item.id, "pool")
        stored = {name: folder.get(plan.judgment_key(item, name), "judgment") for name in plan.requests}
        if entry is None or None in stored.values():
            missing += 1
            continue
        with folder.reading():
            pool = stored_pool(plan, item, entry)
            judgments = {name: JUDGMENTS.validate_python(found["nodes"]) for name, found in stored.items()}
        scores = AnswerScores(plan, item)
        greedy = GreedyAnswer(scores(entry["greedy"]), entry["greedy_tokens"])
        trace = Trace.model_validate(entry["trace"], strict=False)
        for one in trace.candidates:
            if one.round == 0:
                scores(one.text)
        unsettled += scores.unsettled
        tokens, wall = tokens + trace.usage.completion_tokens, wall + entry["wall"]
        for name, found in stored.items():
            judge_wall[name] += found["wall"]
            judge_calls[name] += sum(map(_calls, nodes_of(pool), judgments[name]))
        forecast = forecast_question(pool, greedy, judgments, plan.fmt.names, plan.ns, _prompt_tokens(trace))
        questions.append(PooledQuestion(item, forecast))
    if not questions:
        why = f": {last_error}" if last_error else ""
        raise DataError(f"no question of {plan.benchmark.name} could be sampled and judged{why}")
    return PoolResults(
        questions,
        missing,
        last_error,
        wall / max(1.0, tokens),
        {name: judge_wall[name] / max(1.0, judge_calls[name]) for name in plan.requests},
        unsettled,
    )


def _calls(node: PoolNode, judgment: NodeJudgment) -> float:
    """How many calls a judge made at a node."""
    if judgment.scores is None:
        return sum(usage.model_calls for usage in judgment.spent.values())
    return len(node.groups) * judgment.spent[1].model_calls


def _prompt_tokens(trace: Trace) -> float:
    """The length of the question with its pictures: what a sample read, less the prefix that it continued."""
    prefixes: dict[int | None, int] = {None: 0}
    total = 0
    for one in trace.candidates:
        before = prefixes[one.parent]
        prefixes[one.id] = before + one.completion_tokens
        total += before
    return max(0.0, (trace.usage.prompt_tokens - total) / max(1, len(trace.candidates)))
