"""A Ray cluster: how it is found, and how its machines are shared out among workers.

Owns the sentences that say why a cluster cannot be used. Knows no question. Ray is imported when a cluster is
joined.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import ceil
from pathlib import Path
from typing import Any

from llava_cot.errors import ModelError, missing_package

LOCAL = "local"  # the address of a cluster that is started on this machine, and ends with the process
_TOKENS = "RAY_AUTH_MODE"  # Ray sends its token to an address that is named only where this says so


@dataclass(frozen=True)
class Share:
    """What one worker has: CPUs (and as many threads), GPUs, and MiB for caches."""

    workers: int
    cpus: int
    gpus: float
    cache_mb: int


def shares(nodes: Sequence[Mapping[str, Any]], workers: int | None, cache_mb: int, device: str) -> Share:
    """What each worker gets of a cluster's machines (as `ray.nodes()` tells of them). Raises ModelError."""
    has = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    gpus = 0 if device == "cpu" else int(sum(one.get("GPU", 0) for one in has))
    if gpus:
        has = [one for one in has if one.get("GPU", 0) >= 1]
    cpus = int(sum(one["CPU"] for one in has))
    count = workers if workers is not None else gpus or len(has)
    if not 1 <= count <= cpus:
        raise ModelError(
            f"the Ray cluster has {cpus} CPUs for {count} workers; there must be one, and a CPU for each"
        )
    on_one = ceil(count / len(has))
    return Share(
        count,
        max(1, int(min(one["CPU"] for one in has)) // on_one),
        min(1.0, gpus / count),
        cache_mb if gpus else max(1, cache_mb // on_one),
    )


def checked(spec: str) -> str:
    """The model as workers may open it, whatever folder they are in."""
    from llava_cot.models.endpoint.config import find_providers, load_config

    kind, colon, folder = spec.partition(":") if spec.startswith("vllm:") else ("", "", spec)
    path = Path(folder).expanduser()
    if path.is_dir():
        return f"{kind}{colon}{path.resolve()}"
    if find_providers(spec, load_config()):
        raise ModelError(
            f"{spec} is behind a server, which needs no Ray: name several servers with commas between their "
            "addresses, and leave --ray out"
        )
    return spec


def join(address: str) -> tuple[Any, bool]:
    """Ray, and whether this process joined a cluster now. Raises ModelError."""
    try:
        ray: Any = import_module("ray")
    except ImportError:
        raise ModelError(missing_package("a Ray cluster", "ray", extra="ray")) from None
    if ray.is_initialized():
        return ray, False
    _check_is_there(address)
    more = {"include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **more)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        hint = "" if os.environ.get(_TOKENS) else f"; if it wants a token, set {_TOKENS}=token"
        raise _not_there(address, f"{reason(error)}{hint}") from None
    return ray, True


def _check_is_there(address: str) -> None:
    """Ray itself would try for a minute, and write of it. Raises ModelError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise _not_there(address, str(error)) from None


def _not_there(address: str, why: str) -> ModelError:
    return ModelError(
        f"there is no Ray cluster to join at {address} ({why}); start one with `ray start --head`, or have "
        "one on this machine with --ray local"
    )


def reason(error: BaseException) -> str:
    """The one line of Ray's many that says what happened."""
    text = str(error).strip()
    if "No module named 'llava_cot" in text:
        return "this version of llava-cot is not installed on the cluster's machines"
    return text.splitlines()[0].rstrip(".:") if text else type(error).__name__
