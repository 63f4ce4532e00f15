"""The device that a model runs on: its name, the memory that is free, and how numbers are sent to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

import psutil
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


def is_divided(model: Any) -> bool:
    """Whether accelerate divided a model among several devices, or part of it lies on a disk."""
    places = set(getattr(model, "hf_device_map", {}).values())
    return len(places) > 1 or "disk" in places


def device_of(model: Any) -> torch.device:
    """The device that a model's inputs go to: for a divided one, the first that computes."""
    if not is_divided(model):
        found: torch.device = model.device
        return found
    places = model.hf_device_map.values()
    return torch.device(next((place for place in places if place not in ("cpu", "disk")), "cpu"))


class Caches(Protocol):
    """What has caches whose memory is bounded, as an engine has."""

    device: torch.device
    memory: int  # their bound, in bytes

    @property
    def nbytes(self) -> int: ...


_OF_CPU = 4  # caches take this part of the memory that is free
_MARGIN = 10  # this part of an accelerator's memory is left for what a pass of the network computes
_UNKNOWN = 2**31  # for a device that does not say how much is free
_sharing: WeakSet[Caches] = WeakSet()


def share_memory(caches: Caches) -> None:
    """Bound caches by what is free now, which those of one device that were given to this share equally."""
    _sharing.add(caches)
    together = [one for one in _sharing if one.device == caches.device]
    free = free_bytes(caches.device) + sum(one.nbytes for one in together)
    for one in together:
        one.memory = free // len(together)


def return_memory(caches: Caches) -> None:
    """Give the part of caches that are no longer used to what is opened next."""
    _sharing.discard(caches)


def free_bytes(device: torch.device) -> int:
    """How much of a device's memory is for caches: a quarter of a CPU's, or all but a margin."""
    if device.type == "cpu":
        return int(min([psutil.virtual_memory().available, *_container_bytes()]) // _OF_CPU)
    module = torch.get_device_module(device)
    if device.type == "mps":
        total = module.recommended_max_memory()
        free = total - module.driver_allocated_memory()
    elif hasattr(module, "mem_get_info"):
        free, total = module.mem_get_info(device)
        if hasattr(module, "memory_reserved"):  # what torch has taken, and does not use
            free += module.memory_reserved(device) - module.memory_allocated(device)
    else:
        return _UNKNOWN
    return max(int(free - total // _MARGIN), 2**24)


# Of control groups, version 2 and 1: the limit, what is used, and the part of it that is cached files.
_GROUPS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def _container_bytes(root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """What a container's limit leaves; nothing without a limit."""
    for limit, used, cached in _GROUPS:
        try:
            most = int((root / limit).read_text())
            lines = ((root / limit).parent / "memory.stat").read_text().split()
            files = int(lines[lines.index(cached) + 1])
            return [max(0, most - int((root / used).read_text()) + files)]
        except (OSError, ValueError):
            continue
    return []
