"""One step of mini's training by transformers' Trainer: its batches by number, running means, and seconds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.optimization import get_cosine_with_min_lr_schedule_with_warmup
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from research.mini.batches import Batches, collate
from research.mini.learner import Batch, Learner
from research.mini.optimizer import make_optimizer
from research.mini.recipe import TrainStep

_WARMUP, _FLOOR = 100, 0.05  # steps; the share of the peak rate at the end
_SAVE_EVERY, _LOG_EVERY = 250, 50
_STOPPED = 20.0  # seconds from one batch to the next: nothing ran


def run_step(
    learner: Learner, step: TrainStep, batches: Batches, folder: Path, seed: int, note: Callable[[str], None]
) -> None:
    """Train to the end of the step, from its last checkpoint if there is one."""
    optimizer = make_optimizer(learner, step.muon, step.rate)
    schedule = get_cosine_with_min_lr_schedule_with_warmup(
        optimizer, min(_WARMUP, step.steps), step.steps, min_lr_rate=_FLOOR
    )
    trainer = MiniTrainer(
        learner,
        TrainingArguments(
            output_dir=str(folder / "checkpoints"),
            max_steps=step.steps,
            per_device_train_batch_size=1,  # of whole batches
            max_grad_norm=1.0,
            save_steps=_SAVE_EVERY,
            save_total_limit=1,
            logging_steps=_LOG_EVERY,
            report_to=["tensorboard"],
            remove_unused_columns=False,
            dataloader_num_workers=1,  # makes the next batches meanwhile
            use_cpu=True,
            seed=seed,
        ),
        train_dataset=batches,
        data_collator=collate,
        optimizers=(optimizer, schedule),
        callbacks=[Clock(folder / "seconds.json", step, note)],
    )
    for printing in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(printing)
    saved = folder / "checkpoints"
    trainer.train(resume_from_checkpoint=_last(saved))


def _last(checkpoints: Path) -> str | None:
    """The last whole checkpoint: Trainer writes its state last."""
    whole = [path.parent for path in checkpoints.glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda path: int(path.name.split("-")[1]))) if whole else None


class MiniTrainer(Trainer):
    """Takes the batches in order, and logs running means by kind of batch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._means: dict[str, float] = {}

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[int]:
        return SequentialSampler(cast(Batches, train_dataset or self.train_dataset))

    def compute_loss(  # type: ignore[override]
        self,
        model: nn.Module,
        inputs: dict[str, Batch],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        loss: torch.Tensor = model(inputs["batch"])
        for name, value in cast(Learner, self.model).metrics.items():
            key = f"{inputs['batch'].kind}_{name}"
            self._means[key] = 0.95 * self._means.get(key, value) + 0.05 * value
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log({**logs, **self._means}, start_time)


class Clock(TrainerCallback):
    """Notes the progress of a step, and saves its seconds, without those of interruptions."""

    def __init__(self, path: Path, step: TrainStep, note: Callable[[str], None]):
        self._path, self._step, self._note = path, step, note
        self.seconds = float(json.loads(path.read_text())["seconds"]) if path.exists() else 0.0
        self._last = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        passed = time.monotonic() - self._last
        self._last += passed
        self.seconds += passed if passed < _STOPPED else 0.0

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._path.write_text(json.dumps({"seconds": round(self.seconds)}))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        figures = " ".join(f"{name} {value:.3f}" for name, value in (logs or {}).items() if "_" in name)
        self._note(f"{self._step.name} {state.global_step}/{self._step.steps} {self.seconds:.0f} s {figures}")
