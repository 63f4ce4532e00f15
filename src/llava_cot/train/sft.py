"""Fine-tuning from a recipe: read, measure, train, save.

Owns the order of things, and what each process of several does. The parts are in this folder's other files.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from llava_cot.core.files import write_whole
from llava_cot.data.reading import RecordFile
from llava_cot.data.record import Record
from llava_cot.errors import DataError
from llava_cot.models.local.checkpoint import Checkpoint, load_checkpoint, quiet
from llava_cot.models.registry import BUILT_IN
from llava_cot.train.adapt import add_lora, freeze, layer_classes
from llava_cot.train.answering import answers
from llava_cot.train.arguments import training_arguments
from llava_cot.train.collate import Collator
from llava_cot.train.encode import RowEncoder, Size
from llava_cot.train.finish import gathered, save_adapter, save_model
from llava_cot.train.order import even_batches, run_order
from llava_cot.train.recipe import Recipe
from llava_cot.train.rows import (
    BatchSet,
    Counts,
    Rows,
    RunSet,
    cache_key,
    choose,
    measured,
)
from llava_cot.train.run_folder import RunFolder
from llava_cot.train.trainer import StagedTrainer, step_factor
from llava_cot.train.watch import OnStep, Sampling, Watch

Note = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What a run will do: its rows, those it is evaluated on, how many steps, and in which order."""

    rows: Rows
    held: Rows
    counts: Counts
    steps: int
    order: list[int]
    most: int
    per_epoch: float
    a_step: int  # rows


def train(
    recipe: Recipe,
    *,
    resume: bool = False,
    note: Note = lambda text: None,
    on_step: OnStep = lambda step, steps, log: None,
) -> Path:
    """Train as the recipe says; the folder of the model. One process of several is to be called so on each.

    Raises DataError or ModelError with a sentence for the user.
    """
    folder = RunFolder(recipe.out)
    folder.check(recipe, resume)
    if folder.done:
        note(f"this run is done: {folder.model}")
        return folder.model
    for name in recipe.log:
        if find_spec(name) is None:
            raise DataError(f"log: {name} is not installed; pip install {name}, or leave it out")
    here = PartialState(cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()))
    if recipe.fsdp and here.num_processes < 2:
        raise DataError(
            "fsdp needs several processes: `torchrun --nproc-per-node N -m llava_cot train RECIPE`, "
            "or leave it out"
        )
    told: Note = note if here.is_main_process else lambda text: None
    base = BUILT_IN.get(recipe.model) or Path(recipe.model).expanduser()
    checkpoint = load_checkpoint(base, "cpu", recipe.precision if recipe.lora else "float32")
    encoder = RowEncoder(checkpoint, recipe.target, recipe.double_bos)
    plan = _plan(recipe, base, checkpoint, encoder, folder, here)
    told(str(plan.counts))
    if here.is_main_process:
        folder.begin(recipe, processes=here.num_processes, data=_digest(plan))
        folder.remove_torn()
    here.wait_for_everyone()
    trainer, watch = _trainer(recipe, checkpoint, encoder, plan, folder, on_step)
    last = folder.last_whole()
    if last is not None:
        told(f"going on from {last}")
    began = time.monotonic()
    try:
        with quiet():
            trainer.train(resume_from_checkpoint=str(last) if last else None)
    except DataError as error:
        # torch puts a traceback before what went wrong in a worker.
        raise DataError(str(error).rsplit("DataError: ", 1)[-1].strip()) from None
    finally:
        watch.close()
    told("saving the model")
    facts = _facts(plan, trainer.state.log_history)
    _save(recipe, base, trainer, folder, facts, here)
    if here.is_main_process:
        report = {**facts, "seconds": round(time.monotonic() - began, 1), "recipe": recipe.model_dump()}
        write_whole(folder.report, json.dumps(report, indent=1) + "\n")
    here.wait_for_everyone()
    told(f"the model is in {folder.model}")
    return folder.model


def _plan(
    recipe: Recipe,
    base: Path,
    checkpoint: Checkpoint,
    encoder: RowEncoder,
    folder: RunFolder,
    here: PartialState,
) -> Plan:
    most = recipe.max_tokens or checkpoint.context
    if most > checkpoint.context:
        raise DataError(f"max_tokens: {base.name} takes at most {checkpoint.context:,} tokens, not {most:,}")
    files = [RecordFile(data.path) for data in recipe.data]
    other = RecordFile(recipe.evaluate.path) if recipe.evaluate and recipe.evaluate.path else None
    read = [list(file) for file in files]
    records = [record for some in read for record in some]
    repeats = [data.repeat for data, some in zip(recipe.data, read, strict=True) for _ in some]
    evaluated = list(other) if other is not None else []
    all_files = [file.file for file in (*files, *([other] if other is not None else []))]
    sizes = _sizes(encoder, [*records, *evaluated], folder, cache_key(all_files, base, recipe), here)
    rows, held, counts = choose(recipe, records, sizes[: len(records)], repeats, most)
    for record, size in zip(evaluated, sizes[len(records) :], strict=True):
        if size is not None and size.length <= most:
            held.add(record, size, 1.0)
        else:
            counts.evaluation_left_out += 1
    if recipe.evaluate and not held:
        raise DataError("evaluate: no record is left to evaluate on; raise share, or name another path")
    a_step = recipe.batch * recipe.accumulate * here.num_processes
    per_epoch = sum(rows.repeats)
    steps = recipe.steps or max(1, math.ceil((recipe.epochs or 1) * per_epoch / a_step))
    order = run_order(
        steps=steps,
        batch=a_step,
        pictured=rows.pictured,
        repeats=rows.repeats,
        lengths=rows.lengths if recipe.group_by_length else None,
        seed=recipe.seed,
    )
    counts.not_reached = len(rows) - len(set(order))
    return Plan(rows, held, counts, steps, order, most, per_epoch, a_step)


def _sizes(
    encoder: RowEncoder, records: list[Record], folder: RunFolder, key: str, here: PartialState
) -> list[Size | None]:
    """Measured by one process for all."""
    sizes: list[Any] = [None]
    if here.is_main_process:
        folder.path.mkdir(parents=True, exist_ok=True)
        sizes = [measured(encoder, records, folder.sizes, key, _measuring)]
    if here.num_processes > 1:
        broadcast_object_list(sizes)
    found: list[Size | None] = sizes[0]
    return found


def _measuring(done: int, total: int) -> None:
    if done % 10_000 == 0:
        print(f"measured {done:,} of {total:,} records", file=sys.stderr, flush=True)


def _digest(plan: Plan) -> str:
    parts = [
        [record.id, size.length] for record, size in zip(plan.rows.records, plan.rows.sizes, strict=True)
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _trainer(
    recipe: Recipe,
    checkpoint: Checkpoint,
    encoder: RowEncoder,
    plan: Plan,
    folder: RunFolder,
    on_step: OnStep,
) -> tuple[StagedTrainer, Watch]:
    model, tokenizer = checkpoint.model, checkpoint.processor.tokenizer
    model.train().requires_grad_(True)
    if recipe.freeze:
        freeze(model, recipe.freeze)
    if recipe.lora:
        torch.manual_seed(recipe.seed)
        model = add_lora(model, recipe.lora)
    arguments = training_arguments(recipe, folder.checkpoints, plan.steps, layer_classes(model))
    factor = None
    if recipe.gamma is not None:
        factor = step_factor(
            recipe.gamma,
            arguments.get_warmup_steps(plan.steps),
            lambda step: int(step * plan.a_step / plan.per_epoch),
        )
    watch = Watch(folder, recipe.keep, plan.steps, "tensorboard" in recipe.log, on_step)
    batches = even_batches(plan.held.pictured, plan.held.lengths, recipe.batch, arguments.world_size)
    with quiet():
        trainer = StagedTrainer(
            factor=factor,
            model=model,
            args=arguments,
            data_collator=Collator(tokenizer.pad_token_id or 0),
            train_dataset=RunSet(encoder, plan.rows, plan.order, plan.most),
            eval_dataset=BatchSet(encoder, plan.held, batches, plan.most) if recipe.evaluate else None,
            callbacks=[watch],
        )
    if recipe.samples:
        shown = (plan.held if plan.held else plan.rows).records[: recipe.samples.count]
        most = recipe.samples.tokens
        together = recipe.fsdp is not None

        def answer() -> list[dict[str, Any]]:
            if not (together or trainer.is_world_process_zero()):
                return []
            return answers(trainer.model, encoder, shown, recipe.target, most, tokenizer)

        trainer.add_callback(Sampling(recipe.samples.every, answer, watch))
    return trainer, watch


def _save(
    recipe: Recipe,
    base: Path,
    trainer: StagedTrainer,
    folder: RunFolder,
    facts: dict[str, Any],
    here: PartialState,
) -> None:
    """Gathered by all processes, written by the first."""
    weights = gathered(trainer.accelerator.unwrap_model(trainer.model), keep=here.is_main_process)
    if here.is_main_process:
        model = trainer.accelerator.unwrap_model(trainer.model)
        if recipe.lora:
            save_adapter(model, weights, folder)
        save_model(base, None if recipe.lora else weights, folder, recipe, facts)


def _facts(plan: Plan, history: list[dict[str, float]]) -> dict[str, float]:
    """What the model card and the report tell: counts, and the last losses."""
    epochs = round(plan.steps * plan.a_step / plan.per_epoch, 3)
    facts = {**asdict(plan.counts), "steps": plan.steps, "epochs": epochs}
    for name in ("loss", "eval_loss"):
        found = [line[name] for line in history if name in line]
        facts |= {name: found[-1]} if found else {}
    return facts


def close() -> None:
    """Part from the other processes, if there are any."""
    with suppress(Exception):
        PartialState().destroy_process_group()
