"""The device that a model runs on: its name, the memory that is free, and how numbers are sent to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from llava_cot.errors import ModelError


def find_device(name: str) -> torch.device:
    """The CPU, or an accelerator that torch knows; "auto" is the accelerator, if there is one.

    Raises ModelError if this machine does not have it.
    """
    there = torch.accelerator.is_available()
    best = torch.accelerator.current_accelerator() if there else None
    best = best or torch.device("cpu")
    if name == "auto":
        return torch.device(best.type)
    known = f"choose {' or '.join(dict.fromkeys(('cpu', best.type)))}, or auto for the best available"
    try:
        found = torch.device(name)
    except RuntimeError:
        raise ModelError(f"there is no device {name!r}; {known}") from None
    count = torch.accelerator.device_count() if found.type == best.type != "cpu" else 1
    if found.type not in ("cpu", best.type) or (found.index or 0) >= count:
        raise ModelError(f"this machine has no device {name!r}; {known}")
    return found


def send(values: Sequence[Any] | Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor on a device, for which the host does not wait until the device has done its work so far."""
    made = values if isinstance(values, Tensor) else torch.tensor(values, dtype=dtype)
    return made if device.type == "cpu" else made.to(device, non_blocking=True)
