"""Staged answers from vision-language models, and search over the stages (arXiv 2411.10440).

    model = open_model("mini")
    trace = await ask(model, image, question, method="stage-beam", n=4)

The names below are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llava_cot.models.registry import open_model
    from llava_cot.search.ask import ask, ask_sync

__all__ = ["ask", "ask_sync", "open_model"]

_HOMES = {
    "ask": "llava_cot.search.ask",
    "ask_sync": "llava_cot.search.ask",
    "open_model": "llava_cot.models.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
