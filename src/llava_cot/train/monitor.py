"""What is recorded during a run: the log, TensorBoard, sample answers, and which checkpoints are complete."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from llava_cot.data.record import Record
from llava_cot.errors import DataError
from llava_cot.train.encode import RowEncoder
from llava_cot.train.objectives import target_text
from llava_cot.train.recipe import TrainTarget
from llava_cot.train.run_folder import RunFolder, cut_after

# Called with the step, the number of steps, and the step's line of the log, which is empty at the start.
OnStep = Callable[[int, int, Mapping[str, Any]], None]

_NAMES = {"train_tokens_per_second": "tokens_per_second", "num_input_tokens_seen": "tokens"}


class RunMonitor(TrainerCallback):
    """Writes `log.jsonl` and TensorBoard's events, reports each step, and marks complete checkpoints.

    The learning rate of a line is that of its step; `seconds` count on after an interruption. (TensorBoard's
    events are written here since transformers' callback leaves those that follow a resumed checkpoint.)
    """

    def __init__(self, folder: RunFolder, keep: int, steps: int, tensorboard: bool, on_step: OnStep) -> None:
        self._folder, self._keep, self._tensorboard = folder, keep, tensorboard
        self._steps, self._on_step = steps, on_step
        self._writer: Any = None
        self._log: Any = None
        self._seconds = 0.0
        self._began = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
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
        **_: Any,
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
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # every process has written its part
        if state.is_world_process_zero:
            self._folder.mark_complete(state.global_step, self._keep)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.close()

    def add_samples(self, step: int, samples: Sequence[Mapping[str, Any]]) -> None:
        """Record answers that were written at a step."""
        if self._log is None:
            return
        with self._folder.samples.open("a", encoding="utf-8") as file:
            for sample in samples:
                file.write(json.dumps({"step": step, **sample}, ensure_ascii=False) + "\n")
                if self._writer is not None:
                    self._writer.add_text(sample["id"], sample["text"], step)

    def close(self) -> None:
        for output in (self._log, self._writer):
            if output is not None:
                output.close()
        self._log = self._writer = None


class SampleAnswers(TrainerCallback):
    """Records sample answers every so many steps; `answer` writes them, and runs in every process."""

    def __init__(self, every: int, answer: Callable[[], list[dict[str, Any]]], monitor: RunMonitor) -> None:
        self._every, self._answer, self._monitor = every, answer, monitor

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step % self._every == 0 or state.global_step == state.max_steps:
            self._monitor.add_samples(state.global_step, self._answer())


@torch.no_grad()
def sample_answers(
    model: Any,
    encoder: RowEncoder,
    records: Sequence[Record],
    target: TrainTarget,
    max_tokens: int,
    tokenizer: Any,
) -> list[dict[str, Any]]:
    """The greedy answer to the last question of each record.

    It is decoded without the local engine, whose caches would not see the weights change, and draws nothing
    from training's random state.
    """
    was_training = model.training
    model.eval()
    samples = []
    for record in records:
        row = encoder.prompt(record)
        inputs = {name: tensor.to(model.device) for name, tensor in row.inputs.items()}
        ids = model.generate(
            **inputs,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            max_new_tokens=max_tokens,
            use_cache=True,
        )
        text = tokenizer.decode(ids[0, row.length :], skip_special_tokens=True)
        turn = [turn for turn in record.turns if target_text(turn, target)][-1]
        samples.append(
            {"id": record.id, "question": turn.text, "text": text, "expected": target_text(turn, target)}
        )
    model.train(was_training)
    return samples


def _last_seconds(folder: RunFolder) -> float:
    lines = folder.log.read_text(encoding="utf-8").splitlines() if folder.log.is_file() else []
    return float(json.loads(lines[-1])["seconds"]) if lines else 0.0
