"""A training run: read and measure the records, train, save the model."""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import Trainer

from llava_cot.core.files import write_whole
from llava_cot.errors import DataError, StoreError, needs_extra
from llava_cot.models.local.checkpoint import Checkpoint, load_checkpoint, quiet
from llava_cot.models.registry import CheckpointFiles, find_checkpoint
from llava_cot.train.batch_dataset import BatchDataset
from llava_cot.train.before_after import BeforeAfter, free_memory, wait_for_main
from llava_cot.train.collate import Collator, even_batches
from llava_cot.train.encode import RowEncoder
from llava_cot.train.examine import OnNote
from llava_cot.train.log_ratio_trainer import LogRatioTrainer
from llava_cot.train.objectives import comparison_of
from llava_cot.train.recipe import TrainRecipe
from llava_cot.train.reward_trainer import RewardTrainer
from llava_cot.train.run_folder import (
    EQUAL,
    METRICS,
    OnStep,
    RunFolder,
    RunMonitor,
    SampleAnswers,
    sample_answers,
)
from llava_cot.train.trainer import StagedTrainer, step_factor, training_arguments
from llava_cot.train.training_rows import PAIR_COUNTS, TrainingPlan, plan_run
from llava_cot.train.weights import (
    add_head,
    add_lora,
    freeze,
    gather,
    layer_classes,
    save_adapter,
    save_model,
    write_card,
)

_FULL = 2**20  # bytes that are free on a full disk, at most


def train(
    recipe: TrainRecipe,
    *,
    resume: bool = False,
    note: OnNote = lambda text: None,
    on_step: OnStep = lambda step, steps, log: None,
) -> Path:
    """Train a model as a recipe says. Of several processes, each calls it.

    Args:
        resume: Continue the run in the recipe's folder from its last complete checkpoint.
        note: Called with sentences for the user.
        on_step: Called after each step with the step, the number of steps, and the step's line of the log.

    Returns:
        The folder of the trained model.

    Raises:
        DataError: The recipe, its data or its folder cannot be used, or changed since the run was started.
        StoreError: Another process has a run in the folder, or the disk is full.
        ModelError: The model cannot be loaded.
    """
    folder = RunFolder(recipe.out)
    folder.check(recipe, resume)
    if folder.done:
        note(f"this run is done: {folder.model}")
        return folder.model
    score = BeforeAfter(recipe, folder.path) if recipe.evaluate and recipe.evaluate.bench else None
    for name in recipe.log:
        if find_spec(name) is None:
            raise DataError(f"log: {name} is not installed; pip install {name}, or leave it out")
    here = PartialState(cpu=not torch.accelerator.is_available())
    if recipe.fsdp and here.num_processes < 2:
        raise DataError(
            "fsdp needs several processes: `torchrun --nproc-per-node N -m llava_cot train RECIPE`, "
            "or leave it out"
        )
    note = note if here.is_main_process else lambda text: None
    if here.is_main_process:
        folder.open()
    try:
        with _full_disk(folder.path):
            return _run(recipe, folder, here, score, note, on_step)
    finally:
        folder.close()


def _run(
    recipe: TrainRecipe,
    folder: RunFolder,
    here: PartialState,
    score: BeforeAfter | None,
    note: OnNote,
    on_step: OnStep,
) -> Path:
    with here.main_process_first():  # the others find what it downloads
        found = find_checkpoint(recipe.model)
    precision = recipe.precision if recipe.lora else "float32"
    checkpoint = load_checkpoint(found.folder, "cpu", precision, found.adapters)
    if recipe.objective == "grpo":
        with needs_extra("objective: grpo", "train"):
            from llava_cot.train.grpo_trainer import check_architecture
        check_architecture(checkpoint.model.config.model_type)
    encoder = RowEncoder(checkpoint, recipe.target, recipe.double_bos, recipe.chat_template_kwargs)
    plan = plan_run(recipe, found, checkpoint.context, encoder, folder, here, note)
    note(str(plan.counts))
    if here.is_main_process:
        folder.start(recipe, plan.contents(), processes=here.num_processes, base=plan.base)
        folder.remove_incomplete()
        if score is not None:
            score.measure("before", recipe.model, note)
    wait_for_main(here)
    began = time.monotonic()
    facts = _train(recipe, found, checkpoint, encoder, plan, folder, here, note, on_step)
    seconds = round(time.monotonic() - began, 1)
    if here.is_main_process:
        report = {**facts, "seconds": seconds, "recipe": recipe.model_dump()}
        if score is not None:
            del checkpoint
            free_memory()
            score.measure("after", folder.model, note)
            change = score.change()
            write_card(folder.model, recipe, {**facts, **change.card})
            report["score"] = change.numbers
        write_whole(folder.report, json.dumps(report, indent=1) + "\n")
    wait_for_main(here)
    if recipe.lora and found.adapters:
        note(f"the adapter in {folder.adapter} adds to {recipe.model}: open its model with both")
    note(f"the model is in {folder.model}")
    if here.is_main_process and score is not None:
        for sentence in filter(None, (change.line, change.advice)):
            note(sentence)
    return folder.model


def _train(
    recipe: TrainRecipe,
    found: CheckpointFiles,
    checkpoint: Checkpoint,
    encoder: RowEncoder,
    plan: TrainingPlan,
    folder: RunFolder,
    here: PartialState,
    note: OnNote,
    on_step: OnStep,
) -> dict[str, Any]:
    """Train and save the model. Returns the numbers for the model card and the report."""
    trainer, monitor = _trainer(recipe, checkpoint, encoder, plan, folder, here, note, on_step)
    last = folder.last_complete()
    if last is not None:
        note(f"resuming from {last}")
    try:
        with quiet():
            trainer.train(resume_from_checkpoint=str(last) if last else None)
    except DataError as error:
        # torch puts the traceback of a worker process before its message.
        raise DataError(str(error).rsplit("DataError: ", 1)[-1].strip()) from None
    finally:
        monitor.close()
    equal = [line[EQUAL] for line in trainer.state.log_history if EQUAL in line]
    if equal and min(equal) == 1:
        note(
            "nothing was learned: no two answers to one question had different rewards; begin with a model "
            "that is right sometimes (objective: sft first), or raise grpo.samples or grpo.tokens"
        )
    note("saving the model")
    facts = _facts(plan, trainer)
    model = trainer.accelerator.unwrap_model(trainer.model)
    apart = recipe.lora is not None and recipe.objective != "reward"  # whose adapter makes no reward alone
    if recipe.lora and not apart:
        model = model.merge_and_unload()
    weights = gather(model, keep=here.is_main_process)  # by all processes together
    if here.is_main_process:
        if apart:
            save_adapter(model, found, weights, folder, recipe, facts)
        save_model(found, None if apart else weights, folder, recipe, facts)
    return facts


@contextmanager
def _full_disk(folder: Path) -> Iterator[None]:
    """Raise StoreError, which says so, for an error inside whose cause is a full disk."""
    try:
        yield
    except Exception as error:
        if not _is_full(error, folder):
            raise
        raise StoreError(
            f"the disk of {folder} is full; what was saved before is safe: make room, and continue with "
            "--resume"
        ) from error


def _is_full(error: BaseException | None, folder: Path) -> bool:
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "os error 28" in str(error):
            return True
        # torch does not say why it cannot write
        if type(error) is RuntimeError and folder.exists() and shutil.disk_usage(folder).free < _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def close() -> None:
    """Leave the group of processes, if there is one."""
    with suppress(Exception):
        PartialState().destroy_process_group()


def _trainer(
    recipe: TrainRecipe,
    checkpoint: Checkpoint,
    encoder: RowEncoder,
    plan: TrainingPlan,
    folder: RunFolder,
    here: PartialState,
    note: OnNote,
    on_step: OnStep,
) -> tuple[Trainer, RunMonitor]:
    model, tokenizer = checkpoint.model, checkpoint.processor.tokenizer
    model.train().requires_grad_(True)
    if recipe.freeze:
        freeze(model, recipe.freeze)
    if recipe.objective == "reward":
        add_head(model, recipe.seed)
    if recipe.lora:
        torch.manual_seed(recipe.seed)
        model = add_lora(model, recipe.lora)
    make: Callable[..., Trainer]
    if recipe.objective == "grpo":
        from llava_cot.train.grpo_trainer import grpo_arguments, make_grpo_trainer

        arguments = grpo_arguments(recipe, folder.checkpoints, plan.steps)
        make = partial(make_grpo_trainer, recipe, checkpoint.processor, plan)
    else:
        arguments = training_arguments(recipe, folder.checkpoints, plan.steps, layer_classes(model))
        collator = Collator(tokenizer.pad_token_id or 0)
        make = partial(_make_trainer, recipe, encoder, plan, folder, here, note, data_collator=collator)
    factor = None
    if recipe.gamma is not None:
        warmup = arguments.get_warmup_steps(plan.steps)
        factor = step_factor(recipe.gamma, warmup, lambda at: int(at * plan.per_step / plan.per_epoch))
    monitor = RunMonitor(folder, recipe.keep, plan.steps, "tensorboard" in recipe.log, on_step)
    with quiet():
        trainer = make(factor=factor, model=model, args=arguments, callbacks=[monitor])
    if recipe.samples:
        questions = (plan.held if plan.held else plan.rows).records[: recipe.samples.count]
        max_tokens = recipe.samples.tokens
        sharded = recipe.fsdp is not None  # then every process takes part in each forward pass

        def answer() -> list[dict[str, Any]]:
            if not (sharded or trainer.is_world_process_zero()):
                return []
            return sample_answers(trainer.model, encoder, questions, recipe.target, max_tokens, tokenizer)

        trainer.add_callback(SampleAnswers(recipe.samples.every, answer, monitor))
    return trainer, monitor


def _make_trainer(
    recipe: TrainRecipe,
    encoder: RowEncoder,
    plan: TrainingPlan,
    folder: RunFolder,
    here: PartialState,
    note: OnNote,
    **settings: Any,
) -> StagedTrainer:
    """The trainer of an objective whose answers are given."""
    units = [plan.units[unit] for unit in plan.order]
    first = 0 if recipe.labeled else None
    settings["train_dataset"] = BatchDataset(encoder, plan.rows, units, plan.max_tokens, first)
    if recipe.loss_every:
        world_size = settings["args"].world_size
        batches = even_batches(plan.held.pictured, plan.held.lengths, recipe.batch, world_size)
        settings["eval_dataset"] = BatchDataset(encoder, plan.held, batches, plan.max_tokens)
    if recipe.objective == "sft":
        return StagedTrainer(**settings)
    if recipe.objective == "reward":
        return RewardTrainer(rank=recipe.reward_settings.rank, encoder=encoder, plan=plan, **settings)
    store = folder.store if here.is_main_process else None
    return LogRatioTrainer(
        comparison=comparison_of(recipe), encoder=encoder, plan=plan, store=store, note=note, **settings
    )


def _facts(plan: TrainingPlan, trainer: Trainer) -> dict[str, Any]:
    """The numbers for the model card and the report: counts, the last losses and what else was measured."""
    epochs = round(plan.steps * plan.per_step / plan.per_epoch, 3)
    counts = {name: n for name, n in asdict(plan.counts).items() if n or name not in PAIR_COUNTS}
    facts: dict[str, Any] = {**counts, "steps": plan.steps, "epochs": epochs}
    for name in ("loss", "eval_loss", *METRICS):
        found = [line[name] for line in trainer.state.log_history if name in line]
        facts |= {name: found[-1]} if found else {}
    if isinstance(trainer, LogRatioTrainer) and trainer.likelihood_order is not None:
        facts["eval_pairs_ordered_by_reference"] = trainer.likelihood_order
    return facts
