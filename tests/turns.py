"""Long tests take turns: each run of `make test` has a part of them, which `SWEEP` names by a number."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def in_turn(all_of_them: Sequence[T], parts: int) -> list[T]:
    """The part that SWEEP's number stands for (modulo `parts`), or all if it is no number."""
    which = os.environ.get("SWEEP", "all")
    return list(all_of_them[int(which) % parts :: parts] if which.isdigit() else all_of_them)
