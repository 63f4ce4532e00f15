"""Tiny checkpoints, each made and opened once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from opening import Tiny, open_tiny


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tiny]:
    made: dict[str, Tiny] = {}

    def get(kind: str) -> Tiny:
        if kind not in made:
            made[kind] = open_tiny(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return get
