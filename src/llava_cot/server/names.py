"""Names of models that name a method too: `mini`, `mini:single`, `mini:stage-beam-4`, `mini:best-of-8`.

Owns the names; what follows the colon, such as `best-of-8@logits`, is `methods/spec.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from llava_cot.errors import RequestError
from llava_cot.search.methods import METHODS
from llava_cot.search.request import Spec, parse_spec, runs_alone
from llava_cot.search.resources import Resources
from llava_cot.server.api_errors import ApiError
from llava_cot.server.schemas import MAX_BUDGET, MAX_CANDIDATES

# The numbers of candidates that are listed; any other may be asked for.
_LISTED = (2, 4, 8)


@dataclass(frozen=True)
class Named:
    """What a name says; None where it says nothing."""

    method: str | None = None
    n: int | None = None
    judge: str | None = None
    temperature: float | None = None
    budget: int | None = None


def listed(model: str, resources: Resources) -> list[str]:
    """The names that a server of this model shows: of the methods that can run there, each with its judge."""
    here = {name: kind for name, kind in METHODS.items() if runs_alone(name, resources)}
    ones = (name for name, kind in here.items() if kind.single)
    searches = [kind.short for name, kind in here.items() if not kind.single]
    return [
        model,
        *(f"{model}:{name}" for name in ones),
        *(f"{model}:{name}-{n}" for name in searches for n in _LISTED),
    ]


def read_name(name: str, model: str) -> Named:
    """What the name of a model says, at a server of `model`. Raises ApiError."""
    if name == model:
        return Named()
    served, colon, search = name.rpartition(":")
    if colon and served == model:
        try:
            spec = parse_spec(search)
            _check_spec(spec)
        except ValueError:
            raise _unknown(name, model) from None
        if spec.n > MAX_CANDIDATES:
            raise ApiError(
                400,
                f"{spec.n} candidates are more than the {MAX_CANDIDATES} that one may ask for",
                param="model",
            )
        if (spec.budget or 0) > MAX_BUDGET:
            raise ApiError(
                400,
                f"a budget of {spec.budget} tokens is more than the {MAX_BUDGET} that one may ask for",
                param="model",
            )
        # A judge that the name leaves out may be asked for beside it.
        judge = spec.judge if "@" in search else None
        return Named(spec.method, spec.n, judge, spec.temperature, spec.budget)
    raise _unknown(name, model)


def _check_spec(spec: Spec) -> None:
    """Raises RequestError for a spec that can work at no server."""
    try:
        spec.request()
    except RequestError as error:
        if error.needs is None:
            raise


def _unknown(name: str, model: str) -> ApiError:
    shown = name if len(name) <= 80 else name[:77] + "..."
    return ApiError(
        404,
        f"there is no model {shown!r} here; ask for one of /v1/models, such as {model}:stage-beam-4",
        param="model",
        code="model_not_found",
    )
