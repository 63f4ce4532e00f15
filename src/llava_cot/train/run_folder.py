"""The folder of a run: what was begun there, and which checkpoints are whole.

Owns `run.json` (the recipe and what else must stay the same), the mark of a whole checkpoint, and the removal
of others. Knows no model.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llava_cot.core.files import write_whole
from llava_cot.errors import DataError
from llava_cot.train.recipe import Recipe

_MARK = "whole.json"
# What may be changed while a run is going on: it changes nothing of what is learned.
_FREE = ("out", "save_every", "keep", "workers", "log")


class RunFolder:
    """The paths of a run, and its state between one process and the next."""

    def __init__(self, out: str | Path) -> None:
        self.path = Path(out).expanduser()
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.adapter = self.path / "adapter"
        self.log = self.path / "log.jsonl"
        self.samples = self.path / "samples.jsonl"
        self.report = self.path / "train.json"
        self.sizes = self.path / "sizes.json"
        self._begun = self.path / "run.json"

    @property
    def done(self) -> bool:
        return self.report.is_file() and self.model.is_dir()

    def check(self, recipe: Recipe, resume: bool) -> None:
        """Raises DataError if this recipe may not begin or go on here."""
        if not self._begun.is_file():
            if self.path.is_file() or (self.path.is_dir() and any(self.path.iterdir()) and not resume):
                raise DataError(f"{self.path} holds other files; name a new or empty folder as out")
            return
        if not resume:
            raise DataError(
                f"{self.path} holds a run already; add --resume to go on, or name another folder as out"
            )
        begun = self.facts()["recipe"]
        for name, value in recipe.model_dump().items():
            if name not in _FREE and begun.get(name) != value:
                raise DataError(
                    f"the run in {self.path} was begun with {name}: {_shown(begun.get(name))}, and the "
                    f"recipe now has {_shown(value)}; put it back, or name another folder as out"
                )

    def begin(self, recipe: Recipe, **facts: Any) -> None:
        """Note the recipe and what else must stay the same. Raises DataError if another is noted."""
        if self._begun.is_file():
            begun = self.facts()
            for name, value in facts.items():
                if begun[name] != value:
                    raise DataError(
                        f"the run in {self.path} was begun with {name} {_shown(begun[name])}, and now it is "
                        f"{_shown(value)}; a run goes on only with the same, so begin another one"
                    )
            return
        write_whole(self._begun, json.dumps({"recipe": recipe.model_dump(), **facts}, indent=1) + "\n")

    def facts(self) -> Mapping[str, Any]:
        try:
            read: dict[str, Any] = json.loads(self._begun.read_text(encoding="utf-8"))
        except ValueError:
            raise DataError(f"{self._begun} is damaged; name another folder as out") from None
        return read

    def last_whole(self) -> Path | None:
        """The latest checkpoint that was written to its end."""
        whole = self._whole()
        return whole[max(whole)] if whole else None

    def remove_torn(self) -> None:
        """Remove checkpoints that were not written to their end."""
        whole = self._whole().values()
        for path in self.checkpoints.glob("checkpoint-*"):
            if path not in whole:
                shutil.rmtree(path)

    def mark(self, step: int, keep: int) -> None:
        """Say that the checkpoint of this step is whole, then remove all but the last `keep`."""
        write_whole(self.checkpoints / f"checkpoint-{step}" / _MARK, json.dumps({"step": step}))
        whole = self._whole()
        for number in sorted(whole)[:-keep]:
            (whole[number] / _MARK).unlink()
            shutil.rmtree(whole[number])

    def _whole(self) -> dict[int, Path]:
        found = {}
        for path in self.checkpoints.glob("checkpoint-*"):
            named = re.fullmatch(r"checkpoint-(\d+)", path.name)
            if named and (path / _MARK).is_file():
                found[int(named[1])] = path
        return found


def cut_after(path: Path, step: int) -> None:
    """Keep only the lines of a file of JSON lines whose `step` is no later; a torn last line goes too."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:
            break
    write_whole(path, "".join(kept))


def _shown(value: Any) -> str:
    return json.dumps(value)
