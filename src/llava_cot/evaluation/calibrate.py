"""Measuring how a judge scores: samples of one stage over many questions, or scores that traces hold.

Owns what is sampled and what counts. The file it ends in is `judges/calibration.py`'s subject.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat, parse
from llava_cot.core.trace import Trace
from llava_cot.data.schedule import ImagePool, run_all
from llava_cot.errors import DataError
from llava_cot.evaluation.plan import question_seed
from llava_cot.evaluation.scorer import insist
from llava_cot.evaluation.types import BenchmarkItem
from llava_cot.models.base import Model, Sampling
from llava_cot.search.calibration import Calibration
from llava_cot.search.judges.base import Judge
from llava_cot.search.request import Request
from llava_cot.search.search import Search
from llava_cot.search.tree import Node, grow


@dataclass(frozen=True)
class ScoreSample:
    """The scores, and how many questions gave none, since the model left the stage out."""

    scores: tuple[float, ...]
    without: int = 0


async def sampled(
    model: Model,
    judge: Judge,
    items: Iterable[BenchmarkItem],
    *,
    stage: str,
    sampling: Sampling,
    fmt: StageFormat,
    at_once: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> ScoreSample:
    """One sample of the stage a question, after one of each stage before it, and the judge's scores of these.

    Scores come in the order of the questions, whatever is ready first. Raises ModelError, ImageError and
    DataError.
    """
    room = ImagePool()
    found: dict[int, float | None] = {}

    async def one(job: tuple[int, BenchmarkItem]) -> None:
        number, item = job
        settings = replace(sampling, seed=question_seed(sampling.seed, item.id))
        async with room.open(item.pictures) as images:
            question = item.about(await images())
            found[number] = await insist(
                lambda: _score(question, model, judge, stage=stage, sampling=settings, fmt=fmt)
            )
        on_progress(len(found))

    await run_all(enumerate(items), one, at_once, lambda: False)
    ordered = [found[number] for number in sorted(found)]
    scores = tuple(score for score in ordered if score is not None)
    return ScoreSample(scores, len(ordered) - len(scores))


async def _score(
    question: Question, model: Model, judge: Judge, *, stage: str, sampling: Sampling, fmt: StageFormat
) -> float | None:
    search = Search(Request("calibrate", 1, judge, sampling, fmt=fmt), model, question, judge)
    at = fmt.names.index(stage)
    node = Node()
    while node.after <= at:
        [node] = await grow(search, [node], 1, node.after)
    candidate = node.candidate
    if candidate is None or candidate.stage != stage or parse(candidate.text, fmt).stages[stage] is None:
        return None
    [score] = await search.scores([candidate])
    return score


def traced(traces: Iterable[tuple[str, Trace]], judge: str, stage: str) -> tuple[ScoreSample, str]:
    """The scores that traces hold, and the names of the models that were scored.

    Of each trace those of the first round at this stage: a search comes back to a stage where scores are low.
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


def calibrate(sample: ScoreSample, judge: str, stage: str, **known: Any) -> Calibration:
    """Mean and deviation of a sample; `known` is what else is known of it.

    Raises DataError if it is too small, or has scores that are no finite numbers.
    """
    scores: Sequence[float] = sample.scores
    if len(scores) < 2:
        there = "is one score" if scores else "are no scores"
        raise DataError(
            f"there {there} of the judge {judge} at the stage {stage}, too few to calibrate by; take more "
            "questions, or another stage"
        )
    if not all(map(math.isfinite, scores)):
        raise DataError(f"the judge {judge} gave a score that is no finite number; choose another judge")
    return Calibration(judge, fmean(scores), stdev(scores), len(scores), stage=stage, **known)
