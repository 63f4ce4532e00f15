"""Where vLLM is not installed. With it: tests/with_vllm."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from llava_cot import open_model
from llava_cot.errors import ModelError


def test_a_model_for_vllm_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(
        ModelError,
        match=r"^a model named vllm:FOLDER needs vllm, .* of its own: docs/how-to/use-vllm\.md$",
    ):
        open_model(f"vllm:{tmp_path}")


def test_a_model_name_is_for_servers(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a model name is for servers"):
        open_model(f"vllm:{tmp_path}", model_name="tiny")
