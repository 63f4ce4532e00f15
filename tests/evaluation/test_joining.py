"""How a cluster's machines are shared out."""

from __future__ import annotations

from typing import Any

import pytest

from llava_cot.errors import ModelError
from llava_cot.evaluation.joining import shares


def machine(cpus: float, gpus: float = 0, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}}


@pytest.mark.parametrize(
    ("machines", "workers", "device", "expected"),
    [
        ([machine(8)], None, "auto", (1, 8, 0, 1000)),
        ([machine(8)], 2, "auto", (2, 4, 0, 500)),
        ([machine(8), machine(6), machine(64, alive=False)], None, "auto", (2, 6, 0, 1000)),
        ([machine(8), machine(8)], 3, "auto", (3, 4, 0, 500)),
        ([machine(32, 4), machine(16, 4), machine(64)], None, "auto", (8, 4, 1, 1000)),
        ([machine(32, 4)], 8, "auto", (8, 4, 0.5, 1000)),
        ([machine(32, 4)], None, "cpu", (1, 32, 0, 1000)),
        ([machine(0), machine(4)], None, "auto", (1, 4, 0, 1000)),
    ],
)
def test_shares(
    machines: list[dict[str, Any]], workers: int | None, device: str, expected: tuple[float, ...]
) -> None:
    found = shares(machines, workers, 1000, device)
    assert (found.workers, found.cpus, found.gpus, found.cache_mb) == expected


def test_more_workers_than_cpus_are_refused() -> None:
    for machines, workers in (([machine(2)], 3), ([machine(2)], 0), ([], None)):
        with pytest.raises(ModelError, match="there must be one, and a CPU for each"):
            shares(machines, workers, 1000, "auto")
