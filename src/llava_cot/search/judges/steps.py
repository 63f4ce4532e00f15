"""The steps of an answer, as process reward models judge them, and one score of many."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from llava_cot.core.stages import StageFormat
from llava_cot.models.base import StepScores

_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")


def split_steps(text: str, fmt: StageFormat) -> list[str]:
    """The paragraphs of all stages so far, without tags."""
    tags = "|".join(re.escape(tag) for tag in (*fmt.opening_tags, *fmt.closing_tags))
    bare = re.sub(tags, "\n\n", text)
    return [step.strip() for step in _BLANK_LINES.split(bare) if step.strip()]


def combine(scores: Sequence[float], how: StepScores) -> float:
    """The score of an answer from those of its steps, of which there is at least one."""
    match how:
        case "min":
            return min(scores)
        case "mean":
            return math.fsum(scores) / len(scores)
        case "last":
            return scores[-1]
