"""The model card of a mini: what it is, and how it came about."""

from __future__ import annotations

import json
from pathlib import Path

from research.mini.recipe import MiniRecipe, SampleStep, TrainStep

_ANSWERS = {
    "staged": "answers in LLaVA-CoT's four stages",
    "untagged": "gives the same summary, caption, reasoning and conclusion, a line each, without tags",
    "direct": "gives the answer alone",
}


_CARD = """---
license: apache-2.0
pipeline_tag: image-text-to-text
library_name: transformers
---

# llava-cot mini, {target}

A vision-language model of {millions:.1f} M parameters (Mllama's architecture) that answers questions about
llava-cot's scenes of geometric objects and nothing else. It {answers}.

Trained from nothing by `python -m research.mini` on {pictures:,} rendered scenes of the training split, each
also in a mirror, with seed {seed}:

| step | batches | of | shares | minutes |
| --- | ---: | ---: | --- | ---: |
{rows}

How well it does is in docs/results of llava-cot. It has seen no photograph and no person's text.
"""


def model_card(recipe: MiniRecipe, whole: MiniRecipe, parameters: int) -> str:
    """In Markdown, with the header that model hubs read. Minutes are of the run, without interruptions."""
    return _CARD.format(
        target=recipe.mini,
        millions=parameters / 1e6,
        answers=_ANSWERS[recipe.mini],
        pictures=whole.pictures,
        seed=recipe.seed,
        rows="\n".join(_row(step, recipe, whole) for step in whole.steps),
    )


def _row(step: TrainStep | SampleStep, recipe: MiniRecipe, whole: MiniRecipe) -> str:
    if isinstance(step, SampleStep):
        scenes = step.sample_captions + step.sample_answers
        return f"| {step.name} | | | its own answers to {scenes:,} questions, labeled by the truth | |"
    ours, theirs = (out / step.name / "seconds.json" for out in (recipe.out, whole.out))
    clock = ours if ours.exists() else theirs
    minutes = round(json.loads(clock.read_text())["seconds"] / 60)
    shares = ", ".join(f"{kind} {share:g}" for kind, share in step.shares.items())
    return f"| {step.name} | {step.steps:,} | {step.batch} | {shares} | {minutes} |"


def write_card(folder: Path, recipe: MiniRecipe, whole: MiniRecipe, parameters: int) -> None:
    (folder / "README.md").write_text(model_card(recipe, whole, parameters), encoding="utf-8")
