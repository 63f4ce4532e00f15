"""What is run to put the paper's claims to the test, cut into pieces that may run side by side.

Owns which methods and models answer which claim, and the pieces. Knows no figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llava_cot.evaluation.answers import AnswerSource

# The three ways of training of the paper's ablation, by model, and where their answer is.
TRAINED: dict[str, AnswerSource] = {
    "mini": "conclusion",
    "mini-untagged": "last-line",
    "mini-direct": "whole",
}


@dataclass(frozen=True)
class Task:
    """So many methods of one model under one seed; `name` is that of its folder."""

    name: str
    model: str
    way: AnswerSource
    methods: tuple[str, ...]
    seed: int
    reasoner: str | None = None
    examples: bool = False


# The methods in pieces that take about as long: a machine with more processors runs more of them at once.
_PIECES = (
    ("single", "greedy", "stage-beam-2", "stage-beam-3", "stage-beam-4", "sentence-beam-2"),
    ("stage-beam-8", "best-of-4", "sentence-beam-4"),
    ("best-of-10", "majority-4"),
    ("majority-10",),
    # By themselves: not every model can be judged in all these ways.
    ("stage-beam-4@logits", "stage-beam-4@likelihood", "stage-beam-4@verifier"),
)


@dataclass(frozen=True)
class Piece:
    """Methods of the neighbours. With `reasoner` the model is its own, with `examples` it is shown scenes;
    with `untagged` the ablation is asked that was taught no tags, which is where forms and prompts have
    something to do. The last two are for mini alone."""

    methods: tuple[str, ...]
    reasoner: bool = False
    untagged: bool = False
    examples: bool = False


NEIGHBOURS = (
    Piece(("adaptive-majority-10", "adaptive-stage-beam-4", "stage-beam-8-within-300")),
    Piece(("weighted-best-of-4", "weighted-best-of-4@verifier")),
    Piece(("best-of-4@rules", "best-of-4@verifier", "adaptive-best-of-10@verifier")),
    Piece(("stage-wise-beam-4", "swires-4", "swires-4@verifier", "staged-prompt", "cot")),
    Piece(("prism", "prism-query"), reasoner=True),
    Piece(("msg",)),
    Piece(("msg", "staged-prompt"), untagged=True),
    Piece(("cot-few-shot",), examples=True),
)


def tasks(
    model: str, seeds: Sequence[int], neighbours: bool = False, ablations: Path | None = None
) -> list[Task]:
    """The pieces for one model, and if it is mini, for those of its ablations that are in a folder."""
    folders = {name: ablations / name for name in TRAINED if name != "mini"} if ablations else {}
    specs = {name: f"{name}={folder}" for name, folder in folders.items() if folder.is_dir()}
    if model != "mini":
        specs = {}
    found = [*_searches(model, seeds), *_ablations(seeds, specs)]
    return [*found, *_neighbours(model, seeds, specs)] if neighbours else found


def _searches(model: str, seeds: Sequence[int]) -> Iterator[Task]:
    for number, methods in enumerate(_PIECES, 1):
        for seed in seeds:
            yield Task(f"searches-{number}-seed-{seed}", model, "conclusion", methods, seed)


def _neighbours(model: str, seeds: Sequence[int], ablations: dict[str, str]) -> Iterator[Task]:
    for number, piece in enumerate(NEIGHBOURS, 1):
        if piece.examples and model != "mini":
            continue
        if piece.untagged and "mini-untagged" not in ablations:
            continue
        asked = ablations["mini-untagged"] if piece.untagged else model
        for seed in seeds:
            yield Task(
                f"neighbours-{number}-seed-{seed}",
                asked,
                "conclusion",
                piece.methods,
                seed,
                model if piece.reasoner else None,
                piece.examples,
            )


def _ablations(seeds: Sequence[int], specs: dict[str, str]) -> Iterator[Task]:
    for name, spec in specs.items():
        for seed in seeds:
            yield Task(f"{name}-seed-{seed}", spec, TRAINED[name], ("single",), seed)
