"""Calibrating a judge: the mean and deviation of its scores, of new samples or from saved traces."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from llava_cot.core.stages import parse
from llava_cot.core.trace import Trace
from llava_cot.data.schedule import ImagePool, run_all
from llava_cot.errors import DataError, ModelError
from llava_cot.evaluation.scorer import retry
from llava_cot.evaluation.types import BenchmarkItem
from llava_cot.models.base import Model, seed_of
from llava_cot.search.calibration import Calibration
from llava_cot.search.judges.base import Judge
from llava_cot.search.request import Request
from llava_cot.search.search import Search
from llava_cot.search.tree import Node, grow


@dataclass(frozen=True)
class ScoreSample:
    """Scores of a judge, and the number of questions without one because the model left the stage out."""

    scores: tuple[float, ...]
    without: int = 0


async def sample_scores(
    request: Request,
    model: Model,
    judge: Judge,
    items: Iterable[BenchmarkItem],
    *,
    stage: str,
    at_once: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> ScoreSample:
    """Sample a stage once a question, after one sample of each stage before it, and score these.

    The request's seed and a question's id determine that question's sample. `on_progress` is called with
    the number of questions done.

    Raises:
        ModelError, ImageError, DataError: of the model, the pictures, the questions.
    """
    pool = ImagePool()
    found: dict[int, float | None] = {}

    async def one(numbered: tuple[int, BenchmarkItem]) -> None:
        number, item = numbered
        seeded = request.with_seed(seed_of(request.sampling.seed, item.id))
        async with pool.open(item.pictures) as images:
            question = item.question(await images())
            found[number] = await retry(lambda: _score(Search(seeded, model, question, judge), stage))
        on_progress(len(found))

    failure = await run_all(enumerate(items), one, at_once, lambda: False)
    if failure is not None:
        raise ModelError(failure)
    ordered = [found[number] for number in sorted(found)]
    scores = tuple(score for score in ordered if score is not None)
    return ScoreSample(scores, len(ordered) - len(scores))


async def _score(search: Search, stage: str) -> float | None:
    at = search.fmt.names.index(stage)
    node = Node()
    while node.after <= at:
        [node] = await grow(search, [node], 1, node.after)
    candidate = node.candidate
    if candidate is None or candidate.stage != stage:
        return None
    if parse(candidate.text, search.fmt).stages[stage] is None:
        return None
    [score] = await search.scores([candidate])
    return score


def scores_in_traces(traces: Iterable[tuple[str, Trace]], judge: str, stage: str) -> tuple[ScoreSample, str]:
    """Return the judge's scores of a stage in traces, and the names of the models that were scored.

    Only the first round of a trace at this stage counts: a search returns to a stage where scores are low.
    """
    scores: list[float] = []
    models: dict[str, None] = {}
    without = 0
    for _, trace in traces:
        given = [score for score in trace.scores if (score.judge, score.stage) == (judge, stage)]
        first = min((score.round for score in given), default=-1)
        scores += [score.value for score in given if score.round == first]
        without += not given
        if given:
            models[trace.model] = None
    return ScoreSample(tuple(scores), without), ", ".join(models)


def make_calibration(sample: ScoreSample, judge: str, stage: str, **fields: Any) -> Calibration:
    """Return the calibration by a sample; `fields` are further fields of `Calibration`.

    Raises DataError if the sample has fewer than two scores, or one that is not finite.
    """
    scores = sample.scores
    if len(scores) < 2:
        found = "one score" if scores else "no scores"
        raise DataError(
            f"{found} of the judge {judge} at the stage {stage}, and a calibration needs two at least; use "
            "more questions, or another stage"
        )
    if not all(map(math.isfinite, scores)):
        raise DataError(f"the judge {judge} gave a score that is not a finite number; choose another judge")
    return Calibration(judge, fmean(scores), stdev(scores), len(scores), stage=stage, **fields)
