"""Which questions are answered, how and by which model, in tasks that may run side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llava_cot.evaluation.scorer import AnswerSource
from research.paper.arm_training import ArmTraining
from research.paper.noisy_oracle import NAME, PERCENTS

BASE = "base"  # the name in reports of the model that the ways of training start from
PROMPTED = "single+prompted"
# As the models were trained: the question as it is.
AS_TRAINED = "direct"


@dataclass(frozen=True)
class ReproductionTask:
    """Some methods of one model under one seed."""

    name: str  # of its folder
    model: str  # as for `llava-cot eval`: MODEL or NAME=MODEL
    answer_source: AnswerSource
    methods: tuple[str, ...]
    seed: int
    reasoner: str | None = None
    judge_model: str | None = None  # for the judge implicit, which is calibrated
    examples: bool = False  # whether the model is shown solved scenes


ORACLES = {f"{NAME}-{percent}": percent for percent in PERCENTS if percent}  # without errors: the verifier
# Groups of methods that take about as long: a machine with more processors runs more of them at once.
_SEARCHES = (
    ("single", "greedy", "stage-beam-2", "stage-beam-4", "sentence-beam-2", "majority-4"),
    ("stage-beam-8", "best-of-4"),
    ("best-of-8", "majority-8", "sentence-beam-4"),
    # Tasks of their own, since not every model can be judged in all these ways.
    ("stage-beam-4@logits", "stage-beam-4@likelihood", "best-of-4@logits", "best-of-4@likelihood"),
    ("stage-beam-4@verifier", "best-of-4@verifier", *(f"stage-beam-4@{name}" for name in ORACLES)),
)
_IMPLICIT = (
    "stage-beam-2@implicit",
    "stage-beam-4@implicit",
    "stage-beam-8@implicit",
    "best-of-4@implicit",
    "best-of-8@implicit",
    "stage-wise-beam-4@implicit",
    "swires-4@implicit",
)


@dataclass(frozen=True)
class BaselineGroup:
    """Baselines that run in one task."""

    methods: tuple[str, ...]
    reasoner: bool = False  # the model is its own reasoner
    examples: bool = False  # for mini only


BASELINES = (
    BaselineGroup(("adaptive-majority-8", "adaptive-stage-beam-4", "stage-beam-8-within-700")),
    BaselineGroup(("weighted-best-of-4", "weighted-best-of-4@verifier")),
    BaselineGroup(("best-of-4@rules", "adaptive-best-of-8@verifier")),
    BaselineGroup(("stage-wise-beam-4", "swires-4", "swires-4@verifier", "staged-prompt", "cot")),
    BaselineGroup(("prism", "prism-query"), reasoner=True),
    BaselineGroup(("msg",)),
    BaselineGroup(("cot-few-shot",), examples=True),
)


def search_tasks(
    model: str, judge_model: str | None, seeds: Sequence[int], baselines: bool = False
) -> list[ReproductionTask]:
    """Return the tasks for the searches of one model.

    Args:
        model: The model.
        judge_model: What was trained from it for the judge `implicit`; None to leave that judge out.
        seeds: The seeds of each method.
        baselines: Whether to run the other ways of reasoning and selecting, too.
    """
    found = [
        ReproductionTask(f"searches-{number}-seed-{seed}", model, "conclusion", methods, seed)
        for number, methods in enumerate(_SEARCHES, 1)
        for seed in seeds
    ]
    if judge_model is not None:
        found += [
            ReproductionTask(
                f"implicit-seed-{seed}", model, "conclusion", _IMPLICIT, seed, judge_model=judge_model
            )
            for seed in seeds
        ]
    return [*found, *_baseline_tasks(model, seeds)] if baselines else found


def _baseline_tasks(model: str, seeds: Sequence[int]) -> Iterator[ReproductionTask]:
    for number, group in enumerate(BASELINES, 1):
        if group.examples and model != "mini":
            continue
        for seed in seeds:
            yield ReproductionTask(
                f"baselines-{number}-seed-{seed}",
                model,
                "conclusion",
                group.methods,
                seed,
                model if group.reasoner else None,
                examples=group.examples,
            )


def arm_tasks(base: str, trained: Sequence[ArmTraining]) -> list[ReproductionTask]:
    """Return the tasks for the trained models, and for their base, asked as it is and for the stages."""
    found = [
        ReproductionTask(
            f"arm-{one.name}", f"{one.name}={one.model}", one.arm.answer_source, (AS_TRAINED,), one.seed
        )
        for one in trained
    ]
    return [*found, ReproductionTask("arm-base", f"{BASE}={base}", "conclusion", (AS_TRAINED, PROMPTED), 0)]
