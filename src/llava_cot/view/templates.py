"""How templates are filled in: what comes from data is escaped, and a name that is not there is a fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment(
    finalize: Callable[..., Any] | None = None, package: str = "llava_cot.view", **names: Any
) -> Environment:
    """For the templates of a package, which may use these names; `finalize` is done to every value."""
    made = Environment(
        loader=PackageLoader(package, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    made.globals.update(names)
    return made
