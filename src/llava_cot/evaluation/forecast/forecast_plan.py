"""What `llava-cot plan` samples and judges, and the folder that has it.

The folder's store has, by question, its `pool` (the trace of the samples, the rounds of its tree, the greedy
answer), and by question and judge a `judgment`: what the judge found at each node of the pool, in order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar

from pydantic import BaseModel, TypeAdapter

from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Trace
from llava_cot.data.store import Store
from llava_cot.evaluation.forecast.candidate_tree import PoolSizes, QuestionPool, read_pool
from llava_cot.evaluation.forecast.winners import NodeJudgment
from llava_cot.evaluation.scorer import extract_answer
from llava_cot.evaluation.types import Benchmark, BenchmarkItem
from llava_cot.models.base import optional_sampling
from llava_cot.search.methods.majority import ballot
from llava_cot.search.request import Request

JUDGMENTS = TypeAdapter(list[NodeJudgment])


class _Pool(BaseModel):
    trace: Any
    rounds: list[int]
    greedy: str
    greedy_tokens: int
    wall: float


class _Judgment(BaseModel):
    nodes: list[Any]
    wall: float


class ForecastFolder(Store):
    """The store of a folder of pools."""

    shapes: ClassVar[Mapping[str, TypeAdapter[Any]]] = {
        "pool": TypeAdapter(_Pool),
        "judgment": TypeAdapter(_Judgment),
    }


@dataclass(frozen=True)
class ForecastPlan:
    """What is sampled and judged.

    Attributes:
        benchmark: The questions.
        model: What the model is, whatever the current folder.
        requests: By judge, the request of a search with it.
        described: By judge, what it has besides the model, in words.
        limit: The first so many questions.
        sizes: How much is sampled of each.
    """

    benchmark: Benchmark
    model: str
    requests: Mapping[str, Request]
    described: Mapping[str, str] = field(default_factory=dict)
    limit: int = 200
    sizes: PoolSizes = field(default_factory=PoolSizes)

    @property
    def request(self) -> Request:
        """The request whose sampling and format all have."""
        return next(iter(self.requests.values()))

    @property
    def fmt(self) -> StageFormat:
        return self.request.fmt

    @property
    def ns(self) -> tuple[int, ...]:
        """The numbers of candidates: 2, 4, 8 and so on, up to the samples."""
        return tuple(2**i for i in range(1, self.sizes.samples.bit_length()))

    def settings(self) -> dict[str, str]:
        """What a folder of pools is bound to."""
        request, sampling, sizes = self.request, self.request.sampling, self.sizes
        found = {
            "purpose": "plan",
            "benchmark": self.benchmark.name,
            "model": self.model,
            "format": ",".join(f"{s.name}={s.open} {s.close}" for s in self.fmt.stages),
            "stages": request.stages,
            "temperature": f"{sampling.temperature:g}",
            "top-p": f"{sampling.top_p:g}",
            "max-tokens": str(sampling.max_tokens),
            "seed": str(sampling.seed),
            "samples": str(sizes.samples),
            "branches": str(sizes.branches),
            "completions": str(sizes.completions),
        }
        bounds = {"think-tokens": request.think_tokens, "min-think-tokens": request.min_think_tokens}
        found |= {name: str(value) for name, value in bounds.items() if value is not None}
        return found | {
            name.replace("_", "-"): f"{value:g}" for name, value in optional_sampling(sampling).items()
        }

    def items(self) -> Iterator[BenchmarkItem]:
        return islice(self.benchmark.items(), self.limit)

    def judgment_key(self, item: BenchmarkItem, judge: str) -> str:
        return json.dumps([item.id, judge, self.described.get(judge, "")])


def is_complete(folder: ForecastFolder, plan: ForecastPlan) -> bool:
    """Whether the folder has all pools and judgments of a plan, so that no model need be opened."""
    pools, judgments = set(folder.keys("pool")), set(folder.keys("judgment"))
    return all(
        item.id in pools and all(plan.judgment_key(item, judge) in judgments for judge in plan.requests)
        for item in plan.items()
    )


def stored_pool(plan: ForecastPlan, item: BenchmarkItem, entry: Mapping[str, Any]) -> QuestionPool:
    """Read a question's pool from its entry in the store."""
    question = Question(item.text, (), item.id, item.options, item.answer)
    trace = Trace.model_validate(entry["trace"], strict=False)
    return read_pool(
        trace,
        entry["rounds"],
        plan.fmt,
        plan.sizes,
        AnswerScores(plan, item),
        lambda text: ballot(text, question, plan.fmt),
    )


class AnswerScores:
    """Scores texts of one question by its rule; `unsettled` counts conclusions that this does not decide."""

    def __init__(self, plan: ForecastPlan, item: BenchmarkItem) -> None:
        self._plan, self._item = plan, item
        self._known: dict[str | None, float] = {None: 0.0}
        self.unsettled = 0

    def __call__(self, text: str) -> float:
        conclusion = extract_answer(text, self._plan.fmt, "conclusion")
        if conclusion is not None and conclusion not in self._known:
            found = self._plan.benchmark.rule.match(self._item, conclusion)
            self.unsettled += found is None
            self._known[conclusion] = 0.0 if found is None else found.value
        return self._known[conclusion]
