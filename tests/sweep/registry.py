"""The types of the sweep: what makes a tiny checkpoint of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedConfig
from turns import in_turn

from sweep.parts import widen

# Makes a model with random weights and its processor, with the family's chat template. Of a model that is
# refused before its weights are read, the configuration alone.
Maker = Callable[[], tuple[Any, Any]]


@dataclass(frozen=True)
class TinyType:
    """One type of transformers' image-text-to-text models.

    Attributes:
        name: The `model_type` of its configuration.
        make: Makes a tiny checkpoint of it.
        needs: Packages that its processor or its model imports, beyond those of llava-cot itself.
        family: A published family of checkpoints of the type, for the table in the documentation.
        without: The cases of `tests/models/test_sweep.py` that cannot be, each with the reason; "a
            system turn" is a part of one.
        refused: Whether the engine refuses it.
    """

    name: str
    make: Maker
    needs: tuple[str, ...] = ()
    family: str = ""
    without: Mapping[str, str] = field(default_factory=dict)
    refused: bool = False

    @property
    def missing(self) -> list[str]:
        """What it needs and is not installed."""
        return [package for package in self.needs if find_spec(package) is None]

    def save(self, folder: Path) -> Path:
        """Save a checkpoint of it, in the layout of `save_pretrained`."""
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        model, processor = self.make()
        if isinstance(model, PreTrainedConfig):
            save_file({"none": torch.zeros(1)}, folder / "model.safetensors")
        else:
            widen(model)
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        return folder


_TYPES: dict[str, TinyType] = {}


def tiny_type(
    name: str,
    *,
    family: str,
    needs: tuple[str, ...] = (),
    without: Mapping[str, str] | None = None,
    refused: bool = False,
) -> Callable[[Maker], Maker]:
    """Register the maker of a type."""

    def add(make: Maker) -> Maker:
        assert name not in _TYPES
        _TYPES[name] = TinyType(name, make, needs, family, without or {}, refused)
        return make

    return add


def all_types() -> dict[str, TinyType]:
    """Every type by its name, from the modules of this package."""
    for module in iter_modules([str(Path(__file__).parent)]):
        import_module(f"sweep.{module.name}")
    return {name: _TYPES[name] for name in sorted(_TYPES)}


def chosen() -> list[TinyType]:
    """The types that the environment's SWEEP names: all, one of eight parts by number, or some by name."""
    which, types = os.environ.get("SWEEP", "all"), all_types()
    names = list(types)
    if which != "all" and not which.isdigit():
        names = which.split(",")
    return [types[name] for name in in_turn(names, 8)]
