"""The templates of this folder, filled in: what comes from data is made printable and escaped."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from llava_cot.core.wording import printable
from llava_cot.evaluation.report.document import number
from llava_cot.evaluation.report.scale import SERIES
from llava_cot.view.html import template_environment

_PACKAGE = "llava_cot.evaluation.report"


def render(name: str, **values: Any) -> Markup:
    return Markup(_environment().get_template(name).render(**values))


@lru_cache
def read(name: str) -> str:
    """A file of this folder, as it is."""
    return files(_PACKAGE).joinpath(name).read_text(encoding="utf-8")


@lru_cache
def _environment() -> Environment:
    return template_environment(_shown, _PACKAGE, number=number, colours=SERIES)


def _shown(value: Any) -> Any:
    """A text as pages and drawings may hold it; what is markup, is ours."""
    return printable(value.encode("utf-8", "replace").decode()) if type(value) is str else value
