"""What a run tells while it goes on: log, TensorBoard, progress, samples; and the mark on its checkpoints.

Owns the callback. Numbers come from the trainer's log, one line a step.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from llava_cot.errors import DataError
from llava_cot.train.run_folder import RunFolder, cut_after

# Called with the step, the number of steps, and the step's line of the log, which is empty at the start.
OnStep = Callable[[int, int, Mapping[str, Any]], None]

_NAMES = {"train_tokens_per_second": "tokens_per_second", "num_input_tokens_seen": "tokens"}


class Watch(TrainerCallback):
    """Writes `log.jsonl` and TensorBoard's events, shows progress, and marks checkpoints as whole.

    `rate` in the log is that of the step; `seconds` go on over interruptions.
    """

    def __init__(self, folder: RunFolder, keep: int, steps: int, tensorboard: bool, on_step: OnStep) -> None:
        self._folder, self._keep, self._tensorboard = folder, keep, tensorboard
        self._steps, self._on_step = steps, on_step
        self._writer: Any = None
        self._log: Any = None
        self._seconds = 0.0
        self._began = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        self._began = time.monotonic()
        if not state.is_world_process_zero:
            return
        for file in (self._folder.log, self._folder.samples):
            cut_after(file, state.global_step)
        self._seconds = _last_seconds(self._folder)
        self._log = self._folder.log.open("a", encoding="utf-8")
        if self._tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(
                str(self._folder.path / "tensorboard"), purge_step=state.global_step + 1
            )
        self._on_step(state.global_step, self._steps, {})

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **more: Any,
    ) -> None:
        logs = logs or {}
        loss = logs.get("loss", logs.get("eval_loss"))
        if loss is None:
            return
        if not math.isfinite(loss):
            raise DataError(
                f"the loss is {loss} at step {state.global_step}; lower the rate, set clip, or use "
                "another precision"
            )
        if self._log is None:
            return
        line: dict[str, Any] = {"step": state.global_step}
        for name in ("loss", "eval_loss", "learning_rate", "grad_norm", *_NAMES):
            if name in logs:
                line[_NAMES.get(name, name)] = logs[name]
        line["seconds"] = round(self._seconds + time.monotonic() - self._began, 3)
        self._log.write(json.dumps(line) + "\n")
        self._log.flush()
        if self._writer is not None:
            for name, value in line.items():
                if name != "step":
                    self._writer.add_scalar(name, value, state.global_step)
        self._on_step(state.global_step, self._steps, line)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # every process has written its part
        if state.is_world_process_zero:
            self._folder.mark(state.global_step, self._keep)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        self.close()

    def sample(self, step: int, samples: Sequence[dict[str, Any]]) -> None:
        """Note answers that were written at a step."""
        if self._log is None:
            return
        with self._folder.samples.open("a", encoding="utf-8") as file:
            for sample in samples:
                file.write(json.dumps({"step": step, **sample}, ensure_ascii=False) + "\n")
                if self._writer is not None:
                    self._writer.add_text(sample["id"], sample["text"], step)

    def close(self) -> None:
        for open_one in (self._log, self._writer):
            if open_one is not None:
                open_one.close()
        self._log = self._writer = None


class Sampling(TrainerCallback):
    """Has the model answer some questions every so many steps; `answer` does it, on every process at once."""

    def __init__(self, every: int, answer: Callable[[], list[dict[str, Any]]], watch: Watch) -> None:
        self._every, self._answer, self._watch = every, answer, watch

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        if state.global_step % self._every == 0 or state.global_step == state.max_steps:
            self._watch.sample(state.global_step, self._answer())


def _last_seconds(folder: RunFolder) -> float:
    lines = folder.log.read_text(encoding="utf-8").splitlines() if folder.log.is_file() else []
    return float(json.loads(lines[-1])["seconds"]) if lines else 0.0
