"""The folder of a run: the recipe that it was started with, and which of its checkpoints are complete."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llava_cot.core.files import write_whole
from llava_cot.errors import DataError
from llava_cot.train.recipe import TrainRecipe

_MARK = "whole.json"
# These fields change nothing of what is learned, so they may differ when a run is resumed.
_CHANGEABLE = ("out", "save_every", "keep", "workers", "log")


class RunFolder:
    """The paths of a run, and its state from one process to the next."""

    def __init__(self, out: str | Path) -> None:
        self.path = Path(out).expanduser()
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.adapter = self.path / "adapter"
        self.log = self.path / "log.jsonl"
        self.samples = self.path / "samples.jsonl"
        self.report = self.path / "train.json"
        self.sizes = self.path / "sizes.json"
        self._start = self.path / "run.json"

    @property
    def done(self) -> bool:
        return self.report.is_file() and self.model.is_dir()

    def check(self, recipe: TrainRecipe, resume: bool) -> None:
        """Raise DataError if this recipe may not start, or with `resume` continue, a run here."""
        if not self._start.is_file():
            if self.path.is_file() or (self.path.is_dir() and any(self.path.iterdir()) and not resume):
                raise DataError(f"{self.path} holds other files; name a new or empty folder as out")
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

    def start(self, recipe: TrainRecipe, **facts: Any) -> None:
        """Write down the recipe and other facts that must not change.

        Raises:
            DataError: The run was started with other facts.
        """
        if self._start.is_file():
            started = self._facts()
            for name, value in facts.items():
                if started[name] != value:
                    raise DataError(
                        f"the run in {self.path} was started with {name} {json.dumps(started[name])}, and "
                        f"now it is {json.dumps(value)}; resume it with the same, or start another run"
                    )
            return
        write_whole(self._start, json.dumps({"recipe": recipe.model_dump(), **facts}, indent=1) + "\n")

    def _facts(self) -> Mapping[str, Any]:
        try:
            read: dict[str, Any] = json.loads(self._start.read_text(encoding="utf-8"))
        except ValueError:
            raise DataError(f"{self._start} is damaged; name another folder as out") from None
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
        except ValueError:
            break
    write_whole(path, "".join(lines))
