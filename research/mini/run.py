"""Mini's training, step by step; each is skipped when its result is there, and goes on where it stopped.

Owns the folder of a run:

    recipe.json          what the run was begun with
    pictures/            the rendered scenes
    STEP/checkpoints/    where a step goes on from
    STEP/model/          mini after it, an ordinary checkpoint; STEP/heads.safetensors: what is not shipped
    STEP/duels.jsonl     what a sampling step leaves
    model/               mini after the last step, with its card
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import MllamaForConditionalGeneration, set_seed

from llava_cot.errors import DataError
from llava_cot.models.local.checkpoint import quiet
from llava_cot.models.registry import open_model
from research.mini.batches import Batches
from research.mini.begin import begin
from research.mini.build import build_model, build_processor
from research.mini.card import write_card
from research.mini.export import save_model
from research.mini.ground import ground
from research.mini.learner import Learner
from research.mini.pictures import Pool, draw_pictures
from research.mini.recipe import MiniRecipe, SampleStep
from research.mini.rows import Rows
from research.mini.sampled import Sampled, sample_duels
from research.mini.stepping import run_step

Note = Callable[[str], None]


def train_mini(recipe: MiniRecipe, whole: MiniRecipe, note: Note, *, resume: bool = False) -> Path:
    """Train, or with `resume` go on with, the run of a recipe. Returns the folder of the model.

    `whole` is the recipe that has the pictures and steps: the same one, or the one that it is like, whose run
    must have come as far as `recipe.start` and its sampling steps. Raises DataError if not.
    """
    if recipe is not whole and not (whole.out / "pictures" / "counts.npy").exists():
        raise DataError(f"{whole.out} has no pictures yet; train the recipe that this one is like first")
    begin(recipe, whole, resume)
    with quiet():
        return _train(recipe, whole, note)


def _train(recipe: MiniRecipe, whole: MiniRecipe, note: Note) -> Path:
    base, out = whole.out, recipe.out
    if recipe is whole:
        draw_pictures(
            base / "pictures", whole.pictures or 0, lambda done, all: note(f"pictures {done}/{all}")
        )
    pool, processor = Pool(base / "pictures"), build_processor()
    rows = Rows(processor.tokenizer)
    set_seed(recipe.seed)
    learner = Learner(build_model(processor), rows)
    names = [step.name for step in whole.steps]
    first = names.index(recipe.start) + 1 if recipe.start else 0
    before = base / names[first - 1] if first else None
    for step in whole.steps[first:]:
        # What mini samples is sampled once, by the staged model, and is the same data for the others.
        folder = (base if isinstance(step, SampleStep) else out) / step.name
        if isinstance(step, SampleStep):
            _sample(step, before, folder, pool, recipe is whole, note)
            continue
        if not (folder / "heads.safetensors").exists():
            if before is not None:
                _load(learner, before)
            set_seed(recipe.seed)  # so that a run that goes on draws what it would have drawn
            if step.ground:
                ground(learner.model, learner.eyes, pool)
            sampled = Sampled(base / step.sampled / "duels.jsonl", recipe.seed) if step.sampled else None
            batches = Batches(step, recipe.mini, recipe.seed, pool, rows, sampled)
            run_step(learner, step, batches, folder, recipe.seed, note)
            save_model(learner.model, processor, folder / "model")
            _save_heads(learner, folder)
            shutil.rmtree(folder / "checkpoints")
        before = folder
    assert before is not None
    shutil.copytree(before / "model", out / "model", dirs_exist_ok=True)
    write_card(out / "model", recipe, whole, learner.model.num_parameters())
    return out / "model"


def _sample(step: SampleStep, before: Path | None, folder: Path, pool: Pool, ours: bool, note: Note) -> None:
    path = folder / "duels.jsonl"
    if path.exists():
        return
    if not ours or before is None:
        raise DataError(f"there is no {path} yet; train the recipe that this one is like first")
    folder.mkdir(parents=True, exist_ok=True)
    with closing(open_model(before / "model")) as model:
        sample_duels(
            model, step, len(pool) // 2, path, lambda done, all: note(f"{step.name} {done}/{all} lots")
        )


def _save_heads(learner: Learner, folder: Path) -> None:
    state = {f"eyes.{name}": value for name, value in learner.eyes.state_dict().items()}
    state |= {f"aids.{name}": value for name, value in learner.aids.state_dict().items()}
    part = folder / "heads.part"
    save_file(state, part)
    part.replace(folder / "heads.safetensors")  # last: the step is done


def _load(learner: Learner, folder: Path) -> None:
    if not (folder / "heads.safetensors").exists():
        raise DataError(f"the step in {folder} is not finished; train the recipe that this one is like first")
    weights = MllamaForConditionalGeneration.from_pretrained(folder / "model").state_dict()
    learner.model.load_state_dict(weights)
    heads = load_file(folder / "heads.safetensors")
    learner.load_state_dict(heads, strict=False)
