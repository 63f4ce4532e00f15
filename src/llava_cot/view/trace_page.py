"""A trace as HTML: one self-contained page, or a fragment for another page to hold.

Owns what the templates need to know. A model's words are hostile here: everything is escaped, the
page runs no script and may load nothing from anywhere.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from llava_cot.core import words
from llava_cot.core.trace import ImageRecord, Trace
from llava_cot.view.templates import environment

# With more rounds than this, columns side by side get too many to read, so rounds become rows: those of a
# chain, where each goes on from one candidate, sooner than those of a tree, whose parts are side by side.
_COLUMNS, _TREE_COLUMNS = 6, 16

_PICTURE = re.compile(r"data:image/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/=]+")


def trace_page(trace: Trace) -> str:
    """One HTML page that shows the whole trace and needs nothing else."""
    style = stylesheet()
    digest = b64encode(sha256(style.encode()).digest()).decode()
    page = _environment().get_template("page.html.j2")
    return page.render(trace=trace, style=Markup(style), style_hash=digest, body=trace_fragment(trace))


def trace_fragment(trace: Trace, name: str = "trace", *, asked: bool = True, running: bool = False) -> Markup:
    """The trace as one `<article>`, for a page that holds `stylesheet()`.

    `name` begins every id in it: give each trace on one page its own. Without `asked`, picture and question
    are left to that page. While it is `running`, what is not there yet is not called absent.
    """
    fragment = _environment().get_template("trace.html.j2")
    rounds = words.rounds(trace)
    return Markup(
        fragment.render(
            trace=trace,
            name=name,
            asked=asked,
            running=running,
            rounds=rounds,
            layout=_layout(rounds),
            kept=set(trace.chosen),
            followed=words.went_on(trace),
            final=words.final_stage(trace),
            wins=Counter(verdict.winner for verdict in trace.verdicts),
            pieces=lambda text: _pieces(text, trace),
        )
    )


@lru_cache
def stylesheet() -> str:
    """The style that `trace_fragment` wants; its rules touch nothing outside the fragment."""
    return files("llava_cot.view").joinpath("trace.css").read_text(encoding="utf-8")


def _layout(rounds: Sequence[words.Round]) -> str:
    if len(rounds) <= 1:
        return "single"
    tree = any(len(part.groups) > 1 for part in rounds)
    return "columns" if len(rounds) <= (_TREE_COLUMNS if tree else _COLUMNS) else "rows"


def _pieces(text: str, trace: Trace) -> list[tuple[bool, str]]:
    """The text cut at the format's tags; the flag says which parts are tags."""
    tags = [tag for stage in trace.format for tag in (stage.open, stage.close)]
    if not tags:
        return [(False, text)]
    parts = re.split("(" + "|".join(map(re.escape, tags)) + ")", text, flags=re.IGNORECASE)
    return [(index % 2 == 1, part.strip()) for index, part in enumerate(parts) if part.strip()]


def picture(image: ImageRecord) -> str | None:
    """The image's data URL, if it is one: a saved trace may hold anything."""
    return image.data if image.data and _PICTURE.fullmatch(image.data) else None


@lru_cache
def _environment() -> Environment:
    functions = (words.amount, words.facts, words.how, words.loser, words.size, words.why)
    names: dict[str, Any] = {function.__name__: function for function in functions}
    return environment(picture=picture, **names)
