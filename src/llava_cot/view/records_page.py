"""Training records as one self-contained HTML page, with the findings of a check.

The data are untrusted: everything is escaped, texts and pictures are limited in size, and the page loads
nothing and runs no script but its own filter, which is allowed by its hash.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from markupsafe import Markup

from llava_cot.core.images import jpeg_url, load_image
from llava_cot.core.stages import LLAVA_COT, parse, validate
from llava_cot.core.wording import plural
from llava_cot.data.checks.check import FINDING_KINDS, CheckedLine, DataView, kind_of
from llava_cot.data.record import Picture, Turn
from llava_cot.errors import ImageError
from llava_cot.view.html import cut, inline, read_asset, stylesheet, template_environment
from llava_cot.view.summaries import checked_size

_MAX_SIDE = 384  # pixels of a picture's longer side: about 20 kB each
_MAX_PICTURES = 6  # of one record
MAX_TEXT = 10_000  # characters of one text


def records_page(view: DataView) -> str:
    """Render one self-contained HTML page of the chosen records."""
    environment = template_environment(
        lambda text: cut(text, MAX_TEXT),
        as_written=_as_written,
        final=LLAVA_COT.final,
        other_fields=_other_fields,
        pictures=_pictures,
        plural=plural,
        right=_right_option,
        stages=_stages,
    )
    records = [examined for examined in view.chosen if examined.line.record is not None]
    return environment.get_template("records.html.j2").render(
        view=view,
        records=records,
        broken=[examined for examined in view.chosen if examined.line.record is None],
        sources=sorted({examined.line.record.source for examined in records if examined.line.record} - {""}),
        kinds=list(dict.fromkeys(kind_of(name) for name in view.report.names())),
        meaning=FINDING_KINDS,
        size=checked_size(view.report),
        **inline(stylesheet() + read_asset("records.css"), read_asset("records.js")),
    )


def _pictures(examined: CheckedLine) -> list[tuple[str, Markup | None, int, int]]:
    return thumbnails(examined.line.record.pictures if examined.line.record else ())


def thumbnails(pictures: Sequence[Picture]) -> list[tuple[str, Markup | None, int, int]]:
    """Name, thumbnail (None if it cannot be read), width and height of the first pictures."""
    return [(picture.name, *_thumbnail(picture)) for picture in pictures[:_MAX_PICTURES]]


def _thumbnail(picture: Picture) -> tuple[Markup | None, int, int]:
    try:
        image = load_image(picture.file, name=picture.name).pil if picture.file else None
    except ImageError:
        image = None
    if image is None:
        return None, 0, 0
    return Markup(jpeg_url(image, _MAX_SIDE, quality=82)), *image.size


def _stages(turn: Turn) -> dict[str, str | None]:
    return parse(turn.response or "").stages


def _as_written(turn: Turn) -> str | None:
    """The response itself, if it is not just its well-formed stages."""
    return turn.response if turn.response is not None and validate(turn.response) else None


def _right_option(turn: Turn) -> int | None:
    """The index of the right option, if the standard answer is its letter."""
    places = {letter: i for i, letter in enumerate(ascii_uppercase[: len(turn.options)])}
    return places.get(turn.answer or "")


def _other_fields(reject: Mapping[str, Any]) -> str:
    """The fields of a reject other than id, turn and reason."""
    rest = {key: value for key, value in reject.items() if key not in ("id", "turn", "reason")}
    return json.dumps(rest, indent=1, ensure_ascii=False) if rest else ""
