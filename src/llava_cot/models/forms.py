"""What the text of a sample may be held to while it is written: a form.

Owns the value, and how a model declares what it can force. Knows no stage, and nothing that forces a form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FormKind = Literal["json", "grammar"]


@dataclass(frozen=True)
class Form:
    """`text` is a JSON schema, whose properties are to come in its order, or a Lark grammar as llguidance
    reads it (docs/syntax.md there). Either is for all that a sample adds to the prompt's prefix."""

    kind: FormKind
    text: str


def forms_of(model: object) -> tuple[FormKind, ...]:
    """What a model can force: what it declares in `forms`, nothing if it declares nothing."""
    forms: tuple[FormKind, ...] = getattr(model, "forms", ())
    return forms
