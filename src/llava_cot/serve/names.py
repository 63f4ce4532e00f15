"""Names of models that name a method too: `mini`, `mini:single`, `mini:stage-beam-4`, `mini:best-of-8`.

Owns the names. Knows the methods' names alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from llava_cot.methods import METHODS
from llava_cot.serve.errors import ApiError
from llava_cot.serve.wire import MAX_CANDIDATES

# The numbers of candidates that are listed; any other may be asked for.
_LISTED = (2, 4, 8)


@dataclass(frozen=True)
class Named:
    """What a name says; None where it says nothing."""

    method: str | None = None
    n: int | None = None


def listed(model: str) -> list[str]:
    """The names that a server of this model shows."""
    searches = [_short(method) for method in METHODS if method != "single"]
    return [model, f"{model}:single", *(f"{model}:{name}-{n}" for name in searches for n in _LISTED)]


def read_name(name: str, model: str) -> Named:
    """What the name of a model says, at a server of `model`. Raises ApiError."""
    if name == model:
        return Named()
    served, colon, search = name.rpartition(":")
    if colon and served == model:
        if search in METHODS:
            return Named(search)
        found = re.fullmatch(r"([a-z-]+)-([1-9][0-9]{0,8})", search)
        method = {_short(method): method for method in METHODS}.get(found[1]) if found else None
        if found and method:
            n = int(found[2])
            if n > MAX_CANDIDATES:
                raise ApiError(
                    400,
                    f"{n} candidates are more than the {MAX_CANDIDATES} that one may ask for",
                    param="model",
                )
            return Named(method, n)
    shown = name if len(name) <= 80 else name[:77] + "..."
    raise ApiError(
        404,
        f"there is no model {shown!r} here; ask for one of /v1/models, such as {model}:stage-beam-4",
        param="model",
        code="model_not_found",
    )


def _short(method: str) -> str:
    """`best-of-n` with its number is best-of-8, not best-of-n-8."""
    return method.removesuffix("-n")
