"""The types of the sweep: what makes a tiny checkpoint of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

# Makes a model with random weights and its processor, with the family's chat template.
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
    """

    name: str
    make: Maker
    needs: tuple[str, ...] = ()
    family: str = ""
    without: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        """What it needs and is not installed."""
        return [package for package in self.needs if find_spec(package) is None]


TYPES: dict[str, TinyType] = {}
# Types whose makers are here before the engine runs them. Empty in the end.
PENDING: tuple[str, ...] = ("cosmos3_edge", "ernie4_5_vl_moe", "qwen4_exp")


def tiny_type(
    name: str, *, family: str, needs: tuple[str, ...] = (), without: Mapping[str, str] | None = None
) -> Callable[[Maker], Maker]:
    """Register the maker of a type."""

    def add(make: Maker) -> Maker:
        assert name not in TYPES
        TYPES[name] = TinyType(name, make, needs, family, without or {})
        return make

    return add


def chosen() -> list[TinyType]:
    """The types that the environment's SWEEP names: all, one of four parts by its number, or some by name."""
    which, names = os.environ.get("SWEEP", "all"), sorted(TYPES)
    if which.isdigit():
        names = names[int(which) % 4 :: 4]
    elif which != "all":
        names = which.split(",")
    return [TYPES[name] for name in names]
