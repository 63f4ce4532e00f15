"""Staged answers from vision-language models, and search over the stages (arXiv 2411.10440).

    model = open_model("mini")
    trace = await ask(model, image, question, method="stage-beam", n=4)

The names below are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llava_cot.core.question import Question, load_image
    from llava_cot.core.stages import LLAVA_COT, StageFormat, make_format
    from llava_cot.core.trace import Candidate, Trace, Usage
    from llava_cot.errors import DataError, ImageError, ModelError, RequestError
    from llava_cot.models.base import Model, Prompt, Sampling
    from llava_cot.models.registry import open_model
    from llava_cot.search.ask import answer, ask, ask_sync
    from llava_cot.search.judges import JUDGES, Judge, JudgeScore, Preference, judge
    from llava_cot.search.methods import METHODS, method
    from llava_cot.search.request import Request, make_request
    from llava_cot.search.resources import Resources
    from llava_cot.search.search import Search

    __version__: str

_HOMES = {
    "core.question": ("Question", "load_image"),
    "core.stages": ("LLAVA_COT", "StageFormat", "make_format"),
    "core.trace": ("Candidate", "Trace", "Usage"),
    "errors": ("DataError", "ImageError", "ModelError", "RequestError"),
    "models.base": ("Model", "Prompt", "Sampling"),
    "models.registry": ("open_model",),
    "search.ask": ("answer", "ask", "ask_sync"),
    "search.judges": ("JUDGES", "Judge", "JudgeScore", "Preference", "judge"),
    "search.methods": ("METHODS", "method"),
    "search.request": ("Request", "make_request"),
    "search.resources": ("Resources",),
    "search.search": ("Search",),
}
_MODULES = {name: f"llava_cot.{module}" for module, names in _HOMES.items() for name in names}

# How often torch's threads look for work before they sleep. libgomp reads it when torch is loaded; its own
# number, 300,000, costs much beside other busy processes (benchmarks/busy.py).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "500")

__all__ = [
    "JUDGES",
    "LLAVA_COT",
    "METHODS",
    "Candidate",
    "DataError",
    "ImageError",
    "Judge",
    "JudgeScore",
    "Model",
    "ModelError",
    "Preference",
    "Prompt",
    "Question",
    "Request",
    "RequestError",
    "Resources",
    "Sampling",
    "Search",
    "StageFormat",
    "Trace",
    "Usage",
    "__version__",
    "answer",
    "ask",
    "ask_sync",
    "judge",
    "load_image",
    "make_format",
    "make_request",
    "method",
    "open_model",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("llava-cot")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
