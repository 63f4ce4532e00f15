"""A stage format as a constraint on decoding: a grammar with its tags, or a JSON schema; and the way back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json

from llava_cot.core.question import lettered
from llava_cot.core.stages import StageFormat, render, without_tags
from llava_cot.models.base import Constraint

# A stage has a character that Python does not strip (which takes \x1c to \x1f for white space, too), so that
# it is not empty, and ends with the first tag in it, in any case.
# White space around a choice and between stages is short: a model that may write any can do so for ever.
_GRAMMAR = r"""
start: {stages}
GAP: /[ \n]{{0,2}}/
TEXT: /(?s:.*)[^\s\x1c-\x1f](?s:.*)/
CHOICE: /[ \n]?/ ({choices}) /[ \n]?/
TAG: {tags}
BEYOND: /(?s:.*)/ TAG /(?s:.+)/
ENDS: ~BEYOND
{rules}
"""


def stage_grammar(fmt: StageFormat, options: Sequence[str] = ()) -> Constraint:
    """A grammar: every stage once, in order, in its tags. With options, the final one is one of them."""
    rules = [
        f"S{i}: {_quoted(stage.open)} "
        f"({'CHOICE' if options and stage.name == fmt.final else 'TEXT'} {_quoted(stage.close)} & ENDS)"
        for i, stage in enumerate(fmt.stages)
    ]
    tags = (tag for stage in fmt.stages for tag in (stage.open, stage.close))
    return Constraint(
        "grammar",
        _GRAMMAR.format(
            stages=" GAP ".join(f"S{i}" for i in range(len(rules))),
            choices=" | ".join(map(_quoted, choices(options))) or '""',
            tags=" | ".join(f"{_quoted(tag)}i" for tag in tags),
            rules="\n".join(rules),
        ),
    )


def stage_schema(fmt: StageFormat, options: Sequence[str] = ()) -> Constraint:
    """A JSON object of the same stages, a text each, in the same order."""
    fields: dict[str, Any] = {name: {"type": "string"} for name in fmt.names}
    if options:
        fields[fmt.final]["enum"] = choices(options)
    schema = {
        "type": "object",
        "properties": fields,
        "required": list(fmt.names),
        "additionalProperties": False,
    }
    return Constraint("json", json.dumps(schema, ensure_ascii=False))


def choices(options: Sequence[str]) -> list[str]:
    """The texts that choose one of the options: a letter, or the option itself."""
    known = lettered(options)
    return list(
        dict.fromkeys([*(letter for letter, _ in known), *filter(None, (it.strip() for _, it in known))])
    )


def staged(reply: str, fmt: StageFormat) -> str:
    """A JSON reply to `stage_schema` as a staged answer; any other reply as it is.

    The stage in which a reply was cut off stays open. Tags of the format are taken out of the texts.

    Raises:
        ValueError: Where `render` does.
    """
    whole, begun = _read(reply, "on"), _read(reply, "trailing-strings")
    if begun is None or whole is None:
        return reply
    closed = {name: text for name in fmt.names if (text := _text(whole.get(name), fmt)) is not None}
    parts = [render(closed, fmt)] if closed else []
    for stage in fmt.stages:
        if stage.name not in whole and (text := _text(begun.get(stage.name), fmt)):
            parts.append(f"{stage.open} {text}")
    return "\n\n".join(parts)


def _read(reply: str, partial: Any) -> dict[str, Any] | None:
    try:
        found = from_json(reply, allow_partial=partial)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _text(value: Any, fmt: StageFormat) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return without_tags(text, fmt)


def _quoted(text: str) -> str:
    """A text as a literal in Lark, which writes strings as JSON does."""
    return json.dumps(text, ensure_ascii=False)
