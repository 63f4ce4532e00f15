"""The types of the sweep: what makes a tiny checkpoint of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    """

    name: str
    make: Maker
    needs: tuple[str, ...] = ()
    family: str = ""


TYPES: dict[str, TinyType] = {}


def tiny_type(name: str, *, family: str, needs: tuple[str, ...] = ()) -> Callable[[Maker], Maker]:
    """Register the maker of a type."""

    def add(make: Maker) -> Maker:
        assert name not in TYPES
        TYPES[name] = TinyType(name, make, needs, family)
        return make

    return add
