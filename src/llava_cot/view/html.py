"""A trace as HTML: one self-contained page, or a fragment for another page.

A model's text is untrusted: everything is escaped, and the page runs no script and loads nothing.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from llava_cot.core.trace import ImageRecord, Trace
from llava_cot.core.wording import plural, shown_places, writable
from llava_cot.view import describe

# Rounds are columns up to these numbers, else rows: with more, columns get too narrow to read. The rounds of
# a tree are wider apart, so more of them fit.
_COLUMNS, _TREE_COLUMNS = 6, 16

_DATA_URL = re.compile(r"data:image/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/=]+")


def trace_page(trace: Trace) -> str:
    """Render one self-contained HTML page that shows the whole trace."""
    page = _environment().get_template("page.html.j2")
    return page.render(trace=trace, body=trace_fragment(trace), **inline(stylesheet()))


def trace_fragment(
    trace: Trace, name: str = "trace", *, with_question: bool = True, running: bool = False
) -> Markup:
    """Render the trace as one `<article>`, for a page that includes `stylesheet()`.

    Args:
        trace: What to show.
        name: A prefix of every HTML id; unique for each trace on one page.
        with_question: Whether to show pictures, question and answer above the search.
        running: Whether the search is still going on, so that missing stages are left out.
    """
    fragment = _environment().get_template("trace.html.j2")
    rounds = describe.search_rounds(trace)
    return Markup(
        fragment.render(
            trace=trace,
            name=name,
            with_question=with_question,
            running=running,
            rounds=rounds,
            layout=_layout(rounds),
            kept=set(trace.chosen),
            continued=describe.continued_candidates(trace),
            final=describe.final_stage(trace),
            wins=Counter(verdict.winner for verdict in trace.verdicts),
            split_at_tags=lambda text: _split_at_tags(text, trace),
        )
    )


@lru_cache
def stylesheet() -> str:
    """The CSS of `trace_fragment`; its rules apply to nothing outside the fragment."""
    return read_asset("trace.css")


def read_asset(name: str) -> str:
    """The text of a style sheet or script of this package."""
    return files("llava_cot.view").joinpath(name).read_text(encoding="utf-8")


def inline(style: str, script: str = "") -> dict[str, str]:
    """A page's style and script for its template, with the hashes by which its policy allows them."""
    hashes = [b64encode(sha256(text.encode()).digest()).decode() for text in (style, script)]
    names = ("style", "script", "style_hash", "script_hash")
    return dict(zip(names, (Markup(style), Markup(script), *hashes), strict=True))


def cut(text: str, most: int) -> str:
    """Text that a file can hold, cut after so many characters with a note of how many more there are."""
    text = writable(text)
    return text if len(text) <= most else f"{text[:most]} … ({plural(len(text) - most, 'more character')})"


def image_data_url(image: ImageRecord) -> str | None:
    """The image's data URL; None if it is anything else, since a saved trace is untrusted."""
    return image.data if image.data and _DATA_URL.fullmatch(image.data) else None


def template_environment(clean: Callable[[str], str] = shown_places, **names: Any) -> Environment:
    """A Jinja environment that escapes every value and fails on unknown names.

    Args:
        clean: Applied to every plain string before it is escaped. `Markup` is our own and stays.
        names: Functions and values that the templates may use.
    """
    made = Environment(
        loader=PackageLoader("llava_cot.view", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    made.globals.update(names)
    return made


@lru_cache
def _environment() -> Environment:
    return template_environment(describe=describe, image_data_url=image_data_url)


def _layout(rounds: Sequence[describe.SearchRound]) -> str:
    if len(rounds) <= 1:
        return "single"
    tree = any(len(part.groups) > 1 for part in rounds)
    return "columns" if len(rounds) <= (_TREE_COLUMNS if tree else _COLUMNS) else "rows"


def _split_at_tags(text: str, trace: Trace) -> list[tuple[bool, str]]:
    """The text split at the stage tags; the flag marks the tags."""
    tags = [tag for stage in trace.format for tag in (stage.open, stage.close)]
    if not tags:
        return [(False, text)]
    parts = re.split("(" + "|".join(map(re.escape, tags)) + ")", text, flags=re.IGNORECASE)
    return [(index % 2 == 1, part.strip()) for index, part in enumerate(parts) if part.strip()]
