"""A conversation as others write it: ShareGPT's `conversations` or OpenAI's `messages`, made into turns.

Owns both forms, the pictures that they name and staged replies. Knows no file; where a picture is found is
`chats.py`'s subject.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llava_cot.core.stages import parse
from llava_cot.data.record import Turn
from llava_cot.errors import DataError

_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip
MARK = "<image>"  # where a picture stands in a text; ours all stand before the first question


@dataclass(frozen=True)
class Talk:
    """Turns, and what the system said. A picture is named by a path, a data URL, or its bytes and path."""

    turns: tuple[Turn, ...]
    images: tuple[Any, ...]
    system: str = ""


def read_talk(row: Mapping[str, Any]) -> Talk:
    """The conversation of a row.

    A row has `conversations` (`from`, `value`) or `messages` (`role`, `content`: a text, or parts of type
    text, image_url and image), and may have `image` or `images` for pictures, `system` and `hints`.
    Raises DataError for one that cannot be read.
    """
    said, images = _said(row)
    images = _listed(row, "image") + _listed(row, "images") + images
    marks = sum(text.count(MARK) for _, text in said)
    if marks > len(images):
        raise DataError(f"the texts speak of {marks} pictures ({MARK}), and there are {len(images)}")
    system = [row["system"]] if row.get("system") else []
    system += [text for role, text in said if role == "system"]
    turns = _turns((role, text) for role, text in said if role != "system")
    return Talk(_hinted(turns, row.get("hints")), tuple(images), "\n".join(system))


def staged(turn: Turn, reply: str) -> Turn:
    """The turn with a reply: the response and its conclusion if it is in stages, else the standard answer."""
    parsed = parse(reply)
    if parsed.conclusion is None:
        return replace(turn, answer=reply.strip() or None)
    return replace(turn, answer=parsed.answer, response=reply)


def _said(row: Mapping[str, Any]) -> tuple[list[tuple[str, str]], list[Any]]:
    """Who said what, and the pictures that are among the texts."""
    images: list[Any] = []
    for key, who, what in (("conversations", "from", "value"), ("messages", "role", "content")):
        if row.get(key):
            said = []
            for message in row[key]:
                role = _ROLES.get(message[who])
                if role is None:
                    known = ", ".join(_ROLES)
                    raise DataError(f"a message is from {message[who]!r}, which is none of {known}")
                text, shown = _content(message[what])
                images += shown
                said.append((role, text))
            return said, images
    raise DataError(f"there is no conversation: neither `conversations` nor `messages` in {sorted(row)}")


def _content(content: str | Sequence[Mapping[str, Any]]) -> tuple[str, list[Any]]:
    if isinstance(content, str):
        return content, []
    texts, images = [], []
    for part in content:
        if part["type"] == "text":
            texts.append(part["text"])
        elif part["type"] == "image_url":
            url = part["image_url"]
            images.append(url if isinstance(url, str) else url["url"])
        elif part["type"] == "image":  # with the picture in it, or a sign of one in `images`
            shown = next((part[key] for key in ("image", "path", "url") if part.get(key)), None)
            images += [] if shown is None else [shown]
            texts += [MARK] if shown is None else []
        else:
            raise DataError(
                f"a part of a message is of type {part['type']!r}; texts and pictures can be read"
            )
    return "\n".join(texts), images


def _listed(row: Mapping[str, Any], key: str) -> list[Any]:
    value = row.get(key)
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _turns(said: Iterable[tuple[str, str]]) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    asked: str | None = None
    for role, text in said:
        if (role == "user") != (asked is None):
            raise DataError("user and assistant do not speak in turn, the user first")
        if asked is None:
            asked = without_marks(text)
        else:
            turns.append(staged(Turn(asked), text))
            asked = None
    if asked is not None:
        turns.append(Turn(asked))
    if not turns:
        raise DataError("the conversation is empty")
    return tuple(turns)


def without_marks(text: str) -> str:
    """A text without the signs of where its pictures stand."""
    return text.replace(MARK + "\n", "").replace("\n" + MARK, "").replace(MARK, "").strip()


def _hinted(turns: tuple[Turn, ...], hints: str | Sequence[str] | None) -> tuple[Turn, ...]:
    """The turns with hints: one text for the first, or a list with one for each."""
    if not hints:
        return turns
    each = [hints] if isinstance(hints, str) else list(hints)
    if len(each) > len(turns):
        raise DataError(f"there are {len(each)} hints for {len(turns)} questions")
    hinted = [replace(turn, hints=hint or None) for turn, hint in zip(turns, each, strict=False)]
    return (*hinted, *turns[len(hinted) :])
