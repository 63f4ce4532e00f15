"""How many tokens per second `llava-cot train` processes, next to TRL's plain SFTTrainer.

    python benchmarks/train.py
    python benchmarks/train.py --model FOLDER --batch 4 --json > figures.json
    python benchmarks/train.py --quick    # only checks that it runs

Both train the same checkpoint on the same scenes (picture, question, the four stages; loss on the answer
only) with the same batch size, optimizer, precision and threads, without gradient checkpointing, on the GPU
if there is one. They alternate, and the first one changes with each repeat. Tokens are those of the input
without padding. Time runs from the end of the warm-up steps to the end of the last step, and includes
reading and preparing images and each side's own logging; the processor time of the same steps is shown too.
`ours` has rows of similar length in a batch, a recipe's default; `ours, by chance` has them in random
order, as TRL does.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import datasets
import torch
import transformers
import trl
from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback
from transformers.trainer import DEFAULT_CALLBACKS

from llava_cot.core.files import make_recipe
from llava_cot.core.stages import render
from llava_cot.data.record import Picture, Record, Turn, to_json
from llava_cot.models.registry import MINI
from llava_cot.scenes.items import make_items
from llava_cot.train.recipe import TrainRecipe
from llava_cot.train.training_run import train

WARM_UP = 3  # steps
RATE = 1e-5


@dataclass(frozen=True)
class Run:
    """One training: tokens without padding, seconds and processor seconds, after the warm-up steps."""

    tokens: int
    seconds: float
    processor: float

    @property
    def speed(self) -> float:
        return self.tokens / self.seconds

    @property
    def work(self) -> float:
        """Tokens per processor second, which other programs on the machine affect least."""
        return self.tokens / self.processor


class Clock(TrainerCallback):
    """The end of each step, in wall and processor time, of the trainer that ran last."""

    ends: ClassVar[list[tuple[float, float]]] = []

    def on_train_begin(self, *about: Any, **more: Any) -> None:
        self.ends.clear()

    def on_step_end(self, *about: Any, **more: Any) -> None:
        self.ends.append((time.perf_counter(), time.process_time()))

    @classmethod
    def run(cls, tokens: int) -> Run:
        (wall, processor), (wall_end, processor_end) = cls.ends[WARM_UP - 1], cls.ends[-1]
        return Run(tokens, wall_end - wall, processor_end - processor)


@dataclass(frozen=True)
class Setting:
    model: Path
    data: Path
    batch: int
    steps: int


def write_data(folder: Path, count: int) -> Path:
    """Scenes as records."""
    (folder / "images").mkdir(parents=True)
    with (folder / "train.jsonl").open("w", encoding="utf-8") as lines:
        for item in make_items("train", 0, count):
            name = f"images/{item.id}.png"
            item.picture().save(folder / name)
            question = item.question
            turn = Turn(question.text, item.answer, question.options, response=render(item.stages))
            record = Record(item.id, (turn,), (Picture(name, folder / name),))
            lines.write(json.dumps(to_json(record)) + "\n")
    return folder


def run_ours(setting: Setting, seed: int, grouped: bool) -> Run:
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        settings = {
            "model": str(setting.model), "data": [{"path": str(setting.data)}], "out": str(out),
            "steps": setting.steps, "batch": setting.batch, "rate": RATE, "seed": seed,
            "group_by_length": grouped, "save_every": setting.steps,
        }  # fmt: skip
        train(make_recipe(settings, TrainRecipe, "benchmark"))
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    first, last = lines[WARM_UP - 1], lines[-1]
    return Clock.run(last["tokens"] - first["tokens"])


def mark_answers(template: str) -> str | None:
    """Mini's chat template with the marks by which TRL finds answers; None for another template.

    (TRL's other way, prompts and completions, fails with Mllama: its cross-attention mask is too short.)
    """
    turn = "{%- if message.content is string %}{{- message.content }}"
    if turn not in template:
        return None
    answer = "{%- if message.role == 'assistant' %}{% generation %}{%- for part in message.content %}"
    answer += "{{- part.text }}{%- endfor %}{{- eos_token }}{% endgeneration %}"
    answer += "{%- elif message.content is string %}"
    return template.replace(turn, answer + "{{- message.content }}").replace(
        "{%- if message.role == 'assistant' %}{{- eos_token }}{%- endif %}", ""
    )


def run_trl(setting: Setting, seed: int) -> Run:
    lines = [json.loads(line) for line in (setting.data / "train.jsonl").read_text().splitlines()]
    processor = AutoProcessor.from_pretrained(setting.model)
    marked = mark_answers(processor.chat_template)
    rows = []
    for line in lines:
        question, answer = (
            [{"role": role, "content": message["value"]}]
            for role, message in zip(("user", "assistant"), line["conversations"], strict=True)
        )
        turns = {"messages": question + answer} if marked else {"prompt": question, "completion": answer}
        rows.append({"images": [str(setting.data / line["image"])], **turns})
    processor.chat_template = marked or processor.chat_template
    data = datasets.Dataset.from_list(rows).cast_column("images", datasets.Sequence(datasets.Image()))
    counts: list[int] = []
    with tempfile.TemporaryDirectory() as scratch:
        trainer = trl.SFTTrainer(
            model=AutoModelForImageTextToText.from_pretrained(setting.model, dtype=torch.float32),
            processing_class=processor,
            train_dataset=data,
            args=trl.SFTConfig(
                output_dir=scratch, max_steps=setting.steps, per_device_train_batch_size=setting.batch,
                learning_rate=RATE, lr_scheduler_type="cosine", max_length=None, seed=seed, bf16=False,
                gradient_checkpointing=False, save_strategy="no", report_to=[], disable_tqdm=True,
                assistant_only_loss=marked is not None,
                use_cpu=not torch.cuda.is_available(), dataloader_pin_memory=torch.cuda.is_available(),
            ),
        )  # fmt: skip
        collate: Callable[[Any], dict[str, Any]] = trainer.data_collator

        def counted(examples: Any) -> dict[str, Any]:
            batch = collate(examples)
            counts.append(int(batch["attention_mask"].sum()))
            return batch

        trainer.data_collator = counted
        with open(os.devnull, "w") as nowhere:  # it prints its log to standard output
            shown, sys.stdout = sys.stdout, nowhere
            try:
                trainer.train()
            finally:
                sys.stdout = shown
    return Clock.run(sum(counts[WARM_UP : setting.steps]))


SIDES: dict[str, Callable[[Setting, int], Run]] = {
    "ours": lambda setting, seed: run_ours(setting, seed, grouped=True),
    "ours, by chance": lambda setting, seed: run_ours(setting, seed, grouped=False),
    "TRL": run_trl,
}


def measure(setting: Setting, repeats: int, seed: int) -> dict[str, list[Run]]:
    """Measure every side in each repeat; the first one changes."""
    measured: dict[str, list[Run]] = {name: [] for name in SIDES}
    names = list(SIDES)
    for repeat in range(repeats):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            measured[name].append(SIDES[name](setting, seed + repeat))
            print(
                f"{repeat + 1}/{repeats}  {name}: {measured[name][-1].speed:,.0f} tokens/s", file=sys.stderr
            )
    return measured


def table(measured: dict[str, list[Run]]) -> str:
    """A table of medians with the least and the most; ratios are medians over the repeats."""
    head = "| | tokens a second | least - most | to TRL | tokens a processor second | least - most | to TRL |"
    lines = [head, "| --- |" + " ---: |" * 6]
    for name, runs in measured.items():
        cells = [name]
        for values, others in (
            ([run.speed for run in runs], [run.speed for run in measured["TRL"]]),
            ([run.work for run in runs], [run.work for run in measured["TRL"]]),
        ):
            ratio = median(value / other for value, other in zip(values, others, strict=True))
            cells += [f"{median(values):,.0f}", f"{min(values):,.0f} - {max(values):,.0f}", f"{ratio:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mini", help="mini, or the folder of a checkpoint")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the order of rows")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a few steps of two rows")
    parser.add_argument("--json", action="store_true", help="one object instead of the table")
    args = parser.parse_args(arguments)
    if args.quick:
        args.batch, args.steps, args.repeats = 2, 5, 1
    if args.steps <= WARM_UP or min(args.batch, args.repeats, args.threads) < 1:
        parser.error(f"give more than {WARM_UP} steps, and at least one row, repeat and thread")
    torch.set_num_threads(args.threads)
    DEFAULT_CALLBACKS.append(Clock)
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    folder = MINI if args.model == "mini" else Path(args.model)
    with tempfile.TemporaryDirectory() as scratch:
        data = write_data(Path(scratch) / "data", args.batch * args.steps)
        measured = measure(Setting(folder, data, args.batch, args.steps), args.repeats, args.seed)
    about: dict[str, Any] = {
        "model": args.model, "batch": args.batch, "steps": args.steps, "repeats": args.repeats,
        "threads": args.threads,
        "torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__,
    }  # fmt: skip
    if args.json:
        runs = {name: [asdict(run) for run in some] for name, some in measured.items()}
        print(json.dumps({**about, "runs": runs}, indent=1))
    else:
        print(", ".join(f"{name} {value}" for name, value in about.items()) + "\n\n" + table(measured))


if __name__ == "__main__":
    main()
