"""What is run to put the paper's claims to the test, in tasks that may run side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import llava_cot
from llava_cot.evaluation.scorer import AnswerSource

# The three ways of training of the paper's ablation, by model, and where their answer is.
TRAINED: dict[str, AnswerSource] = {
    "mini": "conclusion",
    "mini-untagged": "last-line",
    "mini-direct": "whole",
}


@dataclass(frozen=True)
class ReproductionTask:
    """Some methods of one model under one seed."""

    name: str  # of its folder
    model: str  # as for `llava-cot eval`: MODEL or NAME=MODEL
    answer_source: AnswerSource
    methods: tuple[str, ...]
    seed: int
    reasoner: str | None = None
    examples: bool = False  # whether the model is shown solved scenes


# Groups of methods that take about as long: a machine with more processors runs more of them at once.
_SEARCHES = (
    ("single", "greedy", "stage-beam-2", "stage-beam-3", "stage-beam-4", "sentence-beam-2"),
    ("stage-beam-8", "best-of-4", "sentence-beam-4"),
    ("best-of-10", "majority-4"),
    ("majority-10",),
    # A task of its own, since not every model can be judged in all these ways.
    ("stage-beam-4@logits", "stage-beam-4@likelihood", "stage-beam-4@verifier"),
)


@dataclass(frozen=True)
class BaselineGroup:
    """Baselines that run in one task.

    `untagged` is for mini-untagged, which was trained without tags, so that forms and prompts have an effect.
    """

    methods: tuple[str, ...]
    reasoner: bool = False  # the model is its own reasoner
    untagged: bool = False
    examples: bool = False  # for mini only


BASELINES = (
    BaselineGroup(("adaptive-majority-10", "adaptive-stage-beam-4", "stage-beam-8-within-300")),
    BaselineGroup(("weighted-best-of-4", "weighted-best-of-4@verifier")),
    BaselineGroup(("best-of-4@rules", "best-of-4@verifier", "adaptive-best-of-10@verifier")),
    BaselineGroup(("stage-wise-beam-4", "swires-4", "swires-4@verifier", "staged-prompt", "cot")),
    BaselineGroup(("prism", "prism-query"), reasoner=True),
    BaselineGroup(("msg",)),
    BaselineGroup(("msg", "staged-prompt"), untagged=True),
    BaselineGroup(("cot-few-shot",), examples=True),
)


def default_ablations() -> Path | None:
    """Return the folder of the ablation checkpoints in the repository that this package runs from, if any."""
    folder = Path(llava_cot.__file__).resolve().parents[2] / "research/mini/weights"
    return folder if folder.is_dir() else None


def reproduction_tasks(
    model: str, seeds: Sequence[int], baselines: bool = False, ablations: Path | None = None
) -> list[ReproductionTask]:
    """Return the tasks for one model.

    Args:
        model: The model.
        seeds: The seeds of each method.
        baselines: Whether to run the other ways of reasoning and selecting, too.
        ablations: For mini: the folder that has mini-direct and mini-untagged.
    """
    checkpoints: dict[str, str] = {}
    if model == "mini" and ablations is not None:
        folders = {name: ablations / name for name in TRAINED if name != "mini"}
        checkpoints = {name: f"{name}={folder}" for name, folder in folders.items() if folder.is_dir()}
    found = [
        ReproductionTask(f"searches-{number}-seed-{seed}", model, "conclusion", methods, seed)
        for number, methods in enumerate(_SEARCHES, 1)
        for seed in seeds
    ]
    for name, checkpoint in checkpoints.items():
        found += [
            ReproductionTask(f"{name}-seed-{seed}", checkpoint, TRAINED[name], ("single",), seed)
            for seed in seeds
        ]
    return [*found, *_baseline_tasks(model, seeds, checkpoints)] if baselines else found


def _baseline_tasks(
    model: str, seeds: Sequence[int], checkpoints: dict[str, str]
) -> Iterator[ReproductionTask]:
    for number, group in enumerate(BASELINES, 1):
        if group.examples and model != "mini":
            continue
        if group.untagged and "mini-untagged" not in checkpoints:
            continue
        for seed in seeds:
            yield ReproductionTask(
                f"neighbours-{number}-seed-{seed}",  # as folders of version 0.1.0 are called
                checkpoints["mini-untagged"] if group.untagged else model,
                "conclusion",
                group.methods,
                seed,
                model if group.reasoner else None,
                group.examples,
            )
