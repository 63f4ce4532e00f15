"""What a method or a judge may want besides the model: another model, examples, a calibration.

Values alone. Which method wants what is declared in `METHODS`, which judge in `JUDGES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from llava_cot.core.question import Question
from llava_cot.models.base import Model
from llava_cot.search.calibration import Calibration

if TYPE_CHECKING:
    from llava_cot.models.base import RewardModel

__all__ = ["Calibration", "Example", "Extra", "Extras"]

Extra = Literal["reasoner", "examples", "calibration", "judge_model"]


@dataclass(frozen=True)
class Example:
    """A question and the answer that it should get, to be shown before the one that is asked."""

    question: Question
    answer: str


@dataclass(frozen=True)
class Extras:
    """What there is; a method takes what it wants. `judge_model` judges in place of the model itself."""

    reasoner: Model | None = None
    judge_model: Model | RewardModel | None = None
    examples: tuple[Example, ...] = ()
    calibration: Calibration | None = None
