"""Mini's training, step by step. A finished step is skipped; an interrupted one is resumed.

The folder of a run has:

    recipe.json          the recipe that it was started with
    pictures/            the rendered scenes
    STEP/checkpoints/    where a step is resumed from
    STEP/model/          mini after the step, an ordinary checkpoint
    STEP/heads.safetensors    its heads
    STEP/duels.jsonl     the result of a sampling step
    model/               mini after the last step, with its model card
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import MllamaForConditionalGeneration, set_seed

from llava_cot.core.files import check_new_folder, write_whole
from llava_cot.errors import DataError
from llava_cot.models.local.checkpoint import quiet
from llava_cot.models.registry import open_model
from research.mini.batches import Batches
from research.mini.learner import Learner, ground
from research.mini.model import build_model, build_processor, save_model
from research.mini.pictures import Pool, draw_pictures
from research.mini.recipe import MiniRecipe, SampleStep, TrainStep
from research.mini.rows import Rows
from research.mini.sampled_duels import Sampled, sample_duels
from research.mini.training import run_step

Note = Callable[[str], None]


def train_mini(recipe: MiniRecipe, whole: MiniRecipe, note: Note, *, resume: bool = False) -> Path:
    """Train mini by a recipe, or continue its run with `resume`. Returns the folder of the model.

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
            set_seed(recipe.seed)  # so that a resumed run draws the same numbers
            if step.ground:
                ground(learner.model, learner.vision_heads, pool)
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
    state = {f"vision_heads.{name}": value for name, value in learner.vision_heads.state_dict().items()}
    state |= {f"text_heads.{name}": value for name, value in learner.text_heads.state_dict().items()}
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


_FILE = "recipe.json"
_SHARED = {"pictures", "steps"}


def begin(recipe: MiniRecipe, whole: MiniRecipe, resume: bool) -> None:
    """Write down the recipe of a run. Raises DataError if it may not start or continue in its folder."""
    out, settings = (
        recipe.out,
        recipe.model_dump(mode="json") | whole.model_dump(mode="json", include=_SHARED),
    )
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
