"""Records, folders of records and tiny checkpoints to train."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from command import environment
from PIL import Image

from llava_cot.core.files import make_recipe
from llava_cot.data.record import Picture, Record, Turn, to_json
from llava_cot.data.rollouts.rollout_file import QuestionRollouts, Rollout
from llava_cot.train.recipe import TrainRecipe

STAGED = (
    "<SUMMARY> I will count. </SUMMARY>\n\n<CAPTION> There are {n} cubes. </CAPTION>\n\n"
    "<REASONING> One by one: {n}. </REASONING>\n\n<CONCLUSION> {n} </CONCLUSION>"
)


def picture(folder: Path, number: int, size: tuple[int, int] = (24, 20)) -> Picture:
    name = f"images/{number}.png"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return Picture(name, path)


def record(folder: Path, number: int, pictures: int = 1, turns: int = 1, words: int = 0) -> Record:
    asked = tuple(
        Turn(
            f"How many cubes are there? {'Look well. ' * words}({i})",
            str(number % 10),
            response=STAGED.format(n=number % 10),
        )
        for i in range(turns)
    )
    shown = tuple(picture(folder, 10 * number + i, (24 + 8 * (number % 3), 20)) for i in range(pictures))
    return Record(f"made/{number}", asked, shown)


def write(folder: Path, records: list[Record]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "train.jsonl"
    file.write_text("".join(json.dumps(to_json(one)) + "\n" for one in records), encoding="utf-8")
    return file


def question_rollouts(
    folder: Path, number: int, right: int, wrong: int, pictures: int = 1
) -> QuestionRollouts:
    """A question with so many right and wrong answers, which differ in one word besides their number."""
    shown = tuple(picture(folder, 10 * number + i) for i in range(pictures))
    texts = [
        f"<SUMMARY> I will {word}count. </SUMMARY>\n\n<CONCLUSION> {number} {i} </CONCLUSION>"
        for word, count in (("now ", right), ("not ", wrong))
        for i in range(count)
    ]
    return QuestionRollouts(
        f"asked/{number}",
        f"How many cubes are there? ({number})",
        str(number),
        tuple(Rollout(text, i < right) for i, text in enumerate(texts)),
        images=tuple(one.name for one in shown),
    )


def recipe(model: Path, data: Path | Sequence[Path], out: Path, **more: Any) -> TrainRecipe:
    parts = [data] if isinstance(data, Path) else data
    least = {
        "model": str(model),
        "data": [{"path": str(part)} for part in parts],
        "out": str(out),
        "rate": 1e-3,
        "save_every": 2,
    }
    return make_recipe(least | {"steps": 4, "batch": 4, "log": []} | more, TrainRecipe, "made")


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in log(out) if "loss" in line]


def start(arguments: Sequence[str | Path], processes: int = 1) -> subprocess.Popen[bytes]:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    command = [sys.executable, *launcher, "-m", "llava_cot", "train", *map(str, arguments)]
    return subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> str:
    out, told = process.communicate(timeout=180)
    assert process.returncode == 0, told.decode()
    assert out == b"" and b"Failed to load" not in told  # as bitsandbytes says of its kernels
    return told.decode()


def kill(process: subprocess.Popen[bytes]) -> None:
    """With all that it started, as when a machine fails."""
    for one in [*psutil.Process(process.pid).children(recursive=True), process]:
        one.kill()
    process.communicate()


def write_recipe(wanted: TrainRecipe, out: Path, **more: Any) -> Path:
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(wanted.model_dump() | {"out": str(out)} | more))
    return file


def losses_so_far(out: Path) -> list[str]:
    return [line for line in (out / "log.jsonl").read_text().splitlines() if '"loss"' in line]
