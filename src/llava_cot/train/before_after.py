"""The score of a model before and after its training, by the product's own evaluation (`evaluate.bench`).

One pass a question, greedy, so that no noise of sampling is added to the difference. By default the question
is put as it is (the method `direct`), which is also how it is put in training: a model that has not learned
the stages answers in its own way, and one that has writes them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState

from llava_cot.errors import DataError
from llava_cot.evaluation.benchmarks import open_benchmark
from llava_cot.evaluation.plan import EvalPlan, plan_models
from llava_cot.evaluation.report.arms import arms_of
from llava_cot.evaluation.report.document import number, signed, signed_interval
from llava_cot.evaluation.results import RunResults
from llava_cot.evaluation.run import EvalProgress, evaluate
from llava_cot.evaluation.scorer import AnswerSource
from llava_cot.evaluation.statistics import (
    MeanEstimate,
    PairedDifference,
    check_scipy,
    headline,
    paired_headline,
)
from llava_cot.models.base import Sampling
from llava_cot.search.methods import METHODS
from llava_cot.search.request import parse_spec
from llava_cot.train.examine import OnNote
from llava_cot.train.recipe import EvaluationSettings, TrainRecipe, TrainTarget

When = Literal["before", "after"]

_NOTE_EVERY = 100  # answers
_LONGEST_WAIT = timedelta(days=7)
# Where the answer is: a text without stages counts as a whole in any case.
_ANSWERS: dict[TrainTarget, AnswerSource] = {
    "staged": "conclusion",
    "untagged": "last-line",
    "direct": "whole",
}


@dataclass(frozen=True)
class ScoreChange:
    """What a training did to the score of a model on the same questions, in percent."""

    bench: str
    questions: int
    before: MeanEstimate
    after: MeanEstimate
    difference: PairedDifference

    @property
    def line(self) -> str:
        """Both scores and their difference, in one line."""
        change = f"{signed(self.difference.value)} points (95% interval {signed_interval(self.difference)})"
        return (
            f"score on {self.questions:,} questions of {self.bench}: {number(self.before.value)}% before, "
            f"{number(self.after.value)}% after, {change}"
        )

    @property
    def advice(self) -> str:
        """What to do where the model has not become better; empty where it has."""
        if self.difference.low > 0:
            return ""
        if self.difference.high < 0:
            return (
                "the training made the model worse than it was: keep the old one, read samples or "
                "`llava-cot report` on the folder `evaluation`, then lower the rate, train fewer steps, or "
                "check that the records' answers are right and in the form that the model should write"
            )
        return (
            "these questions do not show that the training made the model better: raise evaluate.limit to "
            "know more, or train longer or on more records"
        )

    @property
    def numbers(self) -> dict[str, Any]:
        """The same for a report in JSON."""
        return {
            "bench": self.bench,
            "questions": self.questions,
            "before": self.before.value,
            "after": self.after.value,
            "difference": self.difference.value,
            "low": self.difference.low,
            "high": self.difference.high,
            "p": self.difference.p,
        }

    @property
    def card(self) -> dict[str, str]:
        """The same for a model card."""
        change = f"{signed(self.difference.value)} ({signed_interval(self.difference)})"
        return {
            "questions": f"{self.questions:,} of {self.bench}",
            "score before, %": number(self.before.value),
            "score after, %": number(self.after.value),
            "difference": change,
        }


class BeforeAfter:
    """Measures the model of a recipe before and after its training.

    The answers are in `evaluation` in the run's folder, a folder of runs: nothing is answered twice, also not
    by a run that is resumed, and `llava-cot report` shows all.

    Raises DataError for a benchmark or a method that cannot be used.
    """

    def __init__(self, recipe: TrainRecipe, folder: Path) -> None:
        assert recipe.evaluate is not None and recipe.evaluate.bench is not None
        check_scipy()
        self._recipe, self._folder = recipe, folder / "evaluation"
        self._settings: EvaluationSettings = recipe.evaluate
        self._bench = open_benchmark(recipe.evaluate.bench, download=True)
        self._spec = parse_spec(self._settings.method)
        if not METHODS[self._spec.method].single:
            raise DataError(
                f"evaluate.method is {self._settings.method}, which is a search; name a method of one pass, "
                "such as direct or single"
            )
        self._plan("before", recipe.model)  # raises what else is wrong with it

    def measure(self, when: When, model: str | Path, note: OnNote) -> None:
        """Answer the questions with a model, except for what was answered before."""
        note(f"measuring the score {when} training")
        done = evaluate(self._folder, self._plan(when, str(model)), on_progress=_every(_NOTE_EVERY, note))
        free_memory()
        if missing := done.left_out.get("missing"):
            reason = next(iter(missing))
            note(f"{sum(missing.values()):,} questions have no answer and count as wrong: {reason}")
        if unscored := done.left_out.get("not scored"):
            note(f"{sum(unscored.values()):,} answers count as wrong: comparing text does not decide them")

    def change(self) -> ScoreChange:
        """Compare the two."""
        with RunResults([self._folder]) as results:
            arms = {arm.model: arm for arm in arms_of(results)}
            before, after = arms["before"], arms["after"]
            return ScoreChange(
                before.benchmark,
                len(before.results),
                headline(before.headline),
                headline(after.headline),
                paired_headline(before.headline, after.headline),
            )

    def _plan(self, when: When, model: str) -> EvalPlan:
        recipe = self._recipe
        [planned] = plan_models(
            [f"{when}={model}"],
            model_name=None,
            at_once=None,
            hardware={"double_bos": recipe.double_bos},
            chat_template_kwargs=recipe.chat_template_kwargs,
        )
        plan = EvalPlan(
            benchmarks=(self._bench,),
            models=(replace(planned, spec=when),),  # the folder of a run may be moved
            specs=(self._spec,),
            limit=self._settings.limit,
            answer_source=_ANSWERS[recipe.target],
            sampling=Sampling(temperature=0.0, max_tokens=self._settings.tokens),
        )
        plan.requests  # noqa: B018 - raises RequestError
        return plan


def _every(count: int, note: OnNote) -> Callable[[EvalProgress], None]:
    def progress(now: EvalProgress) -> None:
        if now.new and now.new % count == 0:
            note(f"answered {now.done:,} of {now.total:,} questions")

    return progress


def free_memory() -> None:
    """Give back the memory of models that are no longer used."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def wait_for_main(here: PartialState) -> None:
    """Wait for all processes, the first of which may take hours: more than a barrier of NCCL allows."""
    if here.num_processes > 1:
        group = torch.distributed.new_group(backend="gloo", timeout=_LONGEST_WAIT)
        torch.distributed.barrier(group)
