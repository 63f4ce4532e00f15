"""The training of mini-base, step by step. A finished step is skipped; an interrupted one is resumed.

The folder of a run has:

    recipe.json          the recipe that it was started with
    pictures/            the rendered scenes
    STEP/checkpoints/    where a step is resumed from
    STEP/model/          the model after the step, an ordinary checkpoint
    STEP/heads.safetensors    its heads
    model/               the model after the last step, with its card
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import MllamaForConditionalGeneration, set_seed

from llava_cot.core.files import check_new_folder, write_whole
from llava_cot.errors import DataError
from llava_cot.models.local.checkpoint import quiet
from research.mini.batches import Batches
from research.mini.learner import Learner, ground
from research.mini.model import build_model, build_processor, save_model
from research.mini.pictures import Pool, draw_pictures
from research.mini.recipe import MiniRecipe, TrainStep
from research.mini.rows import Rows
from research.mini.training import run_step

Note = Callable[[str], None]


def train_mini(recipe: MiniRecipe, note: Note, *, resume: bool = False) -> Path:
    """Train mini-base by a recipe, or continue its run with `resume`. Returns the folder of the model."""
    begin(recipe, resume)
    with quiet():
        return _train(recipe, note)


def _train(recipe: MiniRecipe, note: Note) -> Path:
    out = recipe.out
    draw_pictures(out / "pictures", recipe.pictures, lambda done, all: note(f"pictures {done}/{all}"))
    pool, processor = Pool(out / "pictures"), build_processor()
    rows = Rows(processor.tokenizer)
    set_seed(recipe.seed)
    learner = Learner(build_model(processor), rows)
    folder: Path | None = None
    for step in recipe.steps:
        before, folder = folder, out / step.name
        if (folder / "heads.safetensors").exists():
            continue
        if before is not None:
            _load(learner, before)
        set_seed(recipe.seed)  # so that a resumed run draws the same numbers
        if step.ground:
            ground(learner.model, learner.vision_heads, pool)
        run_step(learner, step, Batches(step, recipe.seed, pool, rows), folder, recipe.seed, note)
        save_model(learner.model, processor, folder / "model")
        _save_heads(learner, folder)
        shutil.rmtree(folder / "checkpoints")
    assert folder is not None
    shutil.copytree(folder / "model", out / "model", dirs_exist_ok=True)
    card = model_card(recipe, learner.model.num_parameters())
    (out / "model" / "README.md").write_text(card, encoding="utf-8")
    return out / "model"


def _save_heads(learner: Learner, folder: Path) -> None:
    state = {name: value for name, value in learner.state_dict().items() if not name.startswith("model.")}
    part = folder / "heads.part"
    save_file(state, part)
    part.replace(folder / "heads.safetensors")  # last: the step is done


def _load(learner: Learner, folder: Path) -> None:
    weights = MllamaForConditionalGeneration.from_pretrained(folder / "model").state_dict()
    learner.model.load_state_dict(weights)
    heads = load_file(folder / "heads.safetensors")
    learner.load_state_dict(heads, strict=False)


_FILE = "recipe.json"


def begin(recipe: MiniRecipe, resume: bool) -> None:
    """Write down the recipe of a run. Raises DataError if it may not start or continue in its folder."""
    out, settings = recipe.out, recipe.model_dump(mode="json")
    file = out / _FILE
    if not file.is_file():
        check_new_folder(out)
        out.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(settings, indent=1) + "\n")
        return
    if not resume:
        raise DataError(
            f"{out} holds a run already; add --resume to continue it, or name another folder as out"
        )
    try:
        started = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError(f"{file} is damaged; name another folder as out") from None
    for name, value in settings.items():
        if started.get(name) != value:
            raise DataError(
                f"the run in {out} was started with other {name} than the recipe now has; put them back, or "
                "name another folder as out"
            )


_CARD = """---
license: apache-2.0
pipeline_tag: image-text-to-text
library_name: transformers
---

# llava-cot mini-base

A vision-language model of {millions:.1f} M parameters (Mllama's architecture) that describes llava-cot's
scenes of geometric objects and answers short questions about them in a word. It has never seen a staged
answer: `mini` is this model after `llava-cot train recipes/mini.yaml`.

Trained from nothing by `python -m research.mini` on {pictures:,} rendered scenes of the training split, each
also in a mirror, with seed {seed}:

| step | batches | of | shares | minutes |
| --- | ---: | ---: | --- | ---: |
{rows}

How well it does is in docs/results of llava-cot. It has seen no photograph and no person's text.
"""


def model_card(recipe: MiniRecipe, parameters: int) -> str:
    """In Markdown, with the header that model hubs read. Minutes are of the run, without interruptions."""
    return _CARD.format(
        millions=parameters / 1e6,
        pictures=recipe.pictures,
        seed=recipe.seed,
        rows="\n".join(_row(step, recipe) for step in recipe.steps),
    )


def _row(step: TrainStep, recipe: MiniRecipe) -> str:
    minutes = round(json.loads((recipe.out / step.name / "seconds.json").read_text())["seconds"] / 60)
    shares = ", ".join(f"{kind} {share:g}" for kind, share in step.shares.items())
    return f"| {step.name} | {step.steps:,} | {step.batch} | {shares} | {minutes} |"
