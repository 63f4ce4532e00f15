"""The folder of a run: its recipe, complete checkpoints, log, TensorBoard's events and sample answers."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerState

from llava_cot.core.files import check_new_folder, home_path, write_whole
from llava_cot.data.record import Record
from llava_cot.data.store import STORE_FILES, Store
from llava_cot.errors import DataError
from llava_cot.train.encode import RowEncoder, target_text
from llava_cot.train.examine import changes
from llava_cot.train.recipe import TrainRecipe, TrainTarget

# Called with the step, the number of steps, and the step's line of the log, which is empty at the start.
OnStep = Callable[[int, int, Mapping[str, Any]], None]

EQUAL = "frac_reward_zero_std"  # of TRL: the share of questions whose answers have all the same reward
_NAMES = {
    "train_tokens_per_second": "tokens_per_second",
    "num_input_tokens_seen": "tokens",
    # Of TRL's GRPOTrainer.
    "rewards/conclusion/mean": "reward_conclusion",
    "rewards/format/mean": "reward_format",
    "rewards/stages/mean": "reward_stages",
    EQUAL: "questions_with_equal_rewards",
    "completions/mean_length": "answer_tokens",
    "completions/clipped_ratio": "cut_answers",
    "num_tokens": "tokens",
}
# What is measured of answers with labels, besides the loss.
METRICS = (
    "reward", "accuracy", "bias", "eval_accuracy", "eval_pairs_ordered", "eval_pairs_ordered_with_likelihood"
)  # fmt: skip
_MARK = "whole.json"
_FACTS = {"processes": "a number of processes of", "base": "a base model whose files have the hash"}
_ROW = "row"  # a kind of values in the store: the rows that the run was started with
# These fields change nothing of what is learned, so they may differ when a run is resumed.
_CHANGEABLE = ("out", "save_every", "keep", "workers", "log")


class RunFolder:
    """The paths of a run, and its state from one process to the next."""

    def __init__(self, out: str | Path) -> None:
        self.path = home_path(out)
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.adapter = self.path / "adapter"
        self.log = self.path / "log.jsonl"
        self.samples = self.path / "samples.jsonl"
        self.report = self.path / "train.json"
        self.unreadable = self.path / "unreadable.jsonl"
        self._start = self.path / "run.json"
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """What was found of records, pictures and the base model; open, it keeps other processes out."""
        assert self._store is not None, "open it first"
        return self._store

    def open(self) -> None:
        """Open the store. Raises StoreError if another process has a run here."""
        self._store = Store(self.path)

    def close(self) -> None:
        """Let another process use the folder."""
        if self._store is not None:
            self._store.close()

    @property
    def done(self) -> bool:
        return self.report.is_file() and self.model.is_dir()

    def check(self, recipe: TrainRecipe, resume: bool) -> None:
        """Raise DataError if this recipe may not start, or with `resume` continue, a run here."""
        if not self._start.is_file():
            if self.path.is_file() or not resume:
                check_new_folder(self.path, (*STORE_FILES, self.unreadable.name))
            return
        if not resume:
            raise DataError(
                f"{self.path} holds a run already; add --resume to continue it, or name another folder as out"
            )
        started = self._facts()["recipe"]
        for name, value in recipe.model_dump().items():
            if name not in _CHANGEABLE and started.get(name) != value:
                raise DataError(
                    f"the run in {self.path} was started with {name}: {json.dumps(started.get(name))}, and "
                    f"the recipe now has {json.dumps(value)}; put it back, or name another folder as out"
                )

    def start(self, recipe: TrainRecipe, rows: Sequence[Sequence[Any]], **facts: Any) -> None:
        """Write down what a run is started with. Raises DataError if it was started with something else."""
        if self._start.is_file():
            started = self._facts()
            for name, value in facts.items():
                if started.get(name) != value:
                    raise DataError(
                        f"the run in {self.path} was started with {_FACTS[name]} {started.get(name)}, and "
                        f"now it is {value}; resume it with the same, or start another run"
                    )
            before = [row for _, row in self.store.items(_ROW)]
            if before != [list(row) for row in rows]:
                raise DataError(
                    f"the data have changed since the run in {self.path} was started "
                    f"({changes(before, rows)}); put them back, or start another run"
                )
            return
        self.store.put_all(_ROW, ((str(number), list(row)) for number, row in enumerate(rows)))
        write_whole(self._start, json.dumps({"recipe": recipe.model_dump(), **facts}, indent=1) + "\n")

    def _facts(self) -> Mapping[str, Any]:
        try:
            read = json.loads(self._start.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            read = None
        if not isinstance(read, dict) or not isinstance(read.get("recipe"), dict):
            raise DataError(f"{self._start} is damaged; name another folder as out")
        return read

    def last_complete(self) -> Path | None:
        """The last complete checkpoint."""
        complete = self._complete()
        return complete[max(complete)] if complete else None

    def remove_incomplete(self) -> None:
        """Remove the checkpoints that an interruption left incomplete."""
        complete = self._complete().values()
        for path in self.checkpoints.glob("checkpoint-*"):
            if path not in complete:
                shutil.rmtree(path)

    def mark_complete(self, step: int, keep: int) -> None:
        """Mark the checkpoint of a step as complete, then remove all but the last `keep`."""
        write_whole(self.checkpoints / f"checkpoint-{step}" / _MARK, json.dumps({"step": step}))
        complete = self._complete()
        for number in sorted(complete)[:-keep]:
            (complete[number] / _MARK).unlink()
            shutil.rmtree(complete[number])

    def _complete(self) -> dict[int, Path]:
        found = {}
        for path in self.checkpoints.glob("checkpoint-*"):
            named = re.fullmatch(r"checkpoint-(\d+)", path.name)
            if named and (path / _MARK).is_file():
                found[int(named[1])] = path
        return found


def cut_after(path: Path, step: int) -> None:
    """Remove the lines of a file of JSON lines whose `step` is later, and an incomplete last line."""
    if not path.is_file():
        return
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                lines.append(line + "\n")
        except (KeyError, RecursionError, TypeError, ValueError):
            break
    write_whole(path, "".join(lines))


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

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self._began = time.monotonic()
        if not state.is_world_process_zero:
            return
        for file in (self._folder.log, self._folder.samples):
            cut_after(file, state.global_step)
        log = self._folder.log
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        self._seconds = float(json.loads(lines[-1])["seconds"]) if lines else 0.0
        self._log = log.open("a", encoding="utf-8")
        if self._tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(
                str(self._folder.path / "tensorboard"), purge_step=state.global_step + 1
            )
        self._on_step(state.global_step, self._steps, {})

    def on_log(self, args: Any, state: TrainerState, control: Any, *, logs: Any = None, **_: Any) -> None:
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
        for name in ("loss", "eval_loss", *METRICS, "learning_rate", "grad_norm", *_NAMES):
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

    def on_save(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # every process has written its part
        if state.is_world_process_zero:
            self._folder.mark_complete(state.global_step, self._keep)

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

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
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
