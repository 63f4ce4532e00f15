"""Devices by name, whatever accelerator torch has."""

from __future__ import annotations

import pytest
import torch

from llava_cot.errors import ModelError
from llava_cot.models.local.devices import find_device


def test_without_an_accelerator_there_is_the_cpu_alone() -> None:
    assert find_device("auto") == find_device("cpu") == torch.device("cpu")
    for name in ("cuda", "meta", "nonsense"):
        with pytest.raises(ModelError, match=f"no device '{name}'; choose cpu, or auto"):
            find_device(name)


def test_any_accelerator_of_torch_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("xpu"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert find_device("auto") == find_device("xpu") == torch.device("xpu")
    assert find_device("xpu:1") == torch.device("xpu:1")
    assert find_device("cpu") == torch.device("cpu")
    for name in ("xpu:2", "cuda"):
        with pytest.raises(ModelError, match=f"no device '{name}'; choose cpu or xpu, or auto"):
            find_device(name)
