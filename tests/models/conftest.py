"""Tiny checkpoints, each made and opened once, and folders that are not the user's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from opening import Tiny, open_tiny

from llava_cot.models.endpoint import http


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tiny]:
    made: dict[str, Tiny] = {}

    def get(kind: str) -> Tiny:
        if kind not in made:
            made[kind] = open_tiny(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return get


@pytest.fixture
def copy(opened: Callable[[str], Tiny], tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return Path(shutil.copytree(opened("llava").folder, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's is read or written, and nothing waits long."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("LLAVA_COT_API_KEY", raising=False)
    monkeypatch.setattr(http, "_FIRST_WAIT", 0.001)
    monkeypatch.setattr(http, "_LONGEST_WAIT", 0.02)
