"""A tiny checkpoint that vLLM can run, opened by it and by the local engine: `make test-vllm`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny

from llava_cot import open_model
from llava_cot.models.local.model import LocalModel
from llava_cot.models.vllm import VllmModel


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # vLLM's attention on a CPU takes no head of fewer than 32 numbers; a byte-level judge's prompt is long.
    return tiny.make(
        "idefics3", tmp_path_factory.mktemp("idefics3"), head_dim=32, max_position_embeddings=4096
    )


@pytest.fixture(scope="session")
def local(folder: Path) -> Iterator[LocalModel]:
    model = LocalModel(folder, device="cpu")
    yield model
    model.close()


@pytest.fixture(scope="session")
def model(folder: Path) -> Iterator[VllmModel]:
    opened = open_model(f"vllm:{folder}", cache_mb=64, max_batch=32)
    assert isinstance(opened, VllmModel)
    yield opened
    opened.close()
