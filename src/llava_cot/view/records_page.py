"""Records as one self-contained HTML page to look through, with what a check found in them.

Owns what the template needs to know. Whatever data hold is hostile here: everything is escaped, texts and
pictures are bounded, and the page may load nothing and run nothing but its own filter, by its hash.
"""

from __future__ import annotations

import base64
import io
import json
from base64 import b64encode
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from string import ascii_uppercase
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from llava_cot.core.images import load_image
from llava_cot.core.stages import LLAVA_COT, parse, validate
from llava_cot.core.text import plural, printable
from llava_cot.data.checks.browse_data import View
from llava_cot.data.checks.findings import KINDS, Examined, Finding, kind_of
from llava_cot.data.record import Picture, Turn
from llava_cot.errors import ImageError
from llava_cot.view.html import stylesheet, template_environment
from llava_cot.view.summaries import checked_size

_SIDE = 384  # pixels of a picture's longer side: about 20 kB each
_PICTURES = 6  # of one record
_TEXT = 10_000  # characters of one text


def records_page(view: View) -> str:
    """One HTML page that shows the view and needs nothing else."""
    style = stylesheet() + _read("records.css")
    script = _read("records.js")
    page = _environment().get_template("records.html.j2")
    records = [examined for examined in view.chosen if examined.line.record is not None]
    return page.render(
        view=view,
        records=records,
        broken=[examined for examined in view.chosen if examined.line.record is None],
        sources=sorted({examined.line.record.source for examined in records if examined.line.record} - {""}),
        kinds=list(dict.fromkeys(kind_of(name) for name in view.report.names())),
        meaning=KINDS,
        size=checked_size(view.report),
        style=Markup(style),
        style_hash=_hash(style),
        script=Markup(script),
        script_hash=_hash(script),
    )


def _hash(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()


@lru_cache
def _read(name: str) -> str:
    return files("llava_cot.view").joinpath(name).read_text(encoding="utf-8")


def _shown(value: Any) -> Any:
    """A text as the page may hold it: printable, and no longer than is read. What is markup, is ours."""
    if type(value) is not str:
        return value
    text = printable(value.encode("utf-8", "replace").decode())
    if len(text) <= _TEXT:
        return text
    return f"{text[:_TEXT]} … ({plural(len(text) - _TEXT, 'more character')})"


def _pictures(examined: Examined) -> list[tuple[str, Markup | None, int, int]]:
    """Name, small copy (None for one that cannot be read), width and height of the first pictures."""
    pictures = examined.line.record.pictures if examined.line.record else ()
    return [(picture.name, *_small(picture)) for picture in pictures[:_PICTURES]]


def _small(picture: Picture) -> tuple[Markup | None, int, int]:
    try:
        image = load_image(picture.file, name=picture.name).pil if picture.file else None
    except ImageError:
        image = None
    if image is None:
        return None, 0, 0
    width, height = image.size
    image.thumbnail((_SIDE, _SIDE))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=82)
    return Markup("data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()), width, height


def _stages(turn: Turn) -> dict[str, str | None]:
    return parse(turn.response or "").stages


def _staged(turn: Turn) -> bool:
    return any(text is not None for text in _stages(turn).values())


def _as_written(turn: Turn) -> str | None:
    """The response as it is, where that is more than its stages."""
    return turn.response if turn.response is not None and validate(turn.response) else None


def _right(turn: Turn) -> int | None:
    """The number of the right option, if the standard answer is its letter."""
    letters = ascii_uppercase[: len(turn.options)]
    return (
        letters.index(turn.answer)
        if turn.answer and len(turn.answer) == 1 and turn.answer in letters
        else None
    )


def _of_turn(examined: Examined, turn: int | None) -> list[Finding]:
    return [finding for finding in examined.findings if finding.turn == turn]


def _found(examined: Examined) -> str:
    """The kinds of what was found, for the filter."""
    return " ".join(dict.fromkeys(finding.kind for finding in examined.findings))


def _rest(reject: Mapping[str, Any]) -> str:
    """What a rejects file tells beside id, turn and reason."""
    rest = {key: value for key, value in reject.items() if key not in ("id", "turn", "reason")}
    return json.dumps(rest, indent=1, ensure_ascii=False) if rest else ""


@lru_cache
def _environment() -> Environment:
    return template_environment(
        finalize=_shown,
        as_written=_as_written, final=LLAVA_COT.final, found=_found, of_turn=_of_turn, pictures=_pictures,
        plural=plural, rest=_rest, right=_right, staged=_staged, stages=_stages,
    )  # fmt: skip
