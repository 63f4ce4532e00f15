"""Tiny checkpoints and a folder of records, each made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from training import record, write

from llava_cot.models.local.checkpoint import Checkpoint, load_checkpoint


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = tiny.make(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return get


@pytest.fixture(scope="session")
def checkpoints(folders: Callable[[str], Path]) -> Callable[[str], Checkpoint]:
    made: dict[str, Checkpoint] = {}

    def get(kind: str) -> Checkpoint:
        if kind not in made:
            made[kind] = load_checkpoint(folders(kind), "cpu", "float32")
        return made[kind]

    return get


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty records, eight of them without a picture."""
    folder = tmp_path_factory.mktemp("data")
    write(folder, [record(folder, i, pictures=int(i % 5 != 4), words=i % 4) for i in range(40)])
    return folder
