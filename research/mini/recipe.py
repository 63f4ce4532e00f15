"""The recipe of mini-base: how many pictures, and the steps of its training, in order."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, model_validator

Kind = Literal["seeing", "descriptions", "perception", "chains", "texts"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainStep(_Strict):
    """So many batches, their kinds drawn by shares. Rates are peaks: `muon` of the layers' matrices, `rate`
    of all else. `ground` first starts the projector from what the picture encoder can be read to see. With
    `grow`, scenes have up to 4 objects at first, and after so many batches one more, and so on: to look up
    one of few comes within minutes, and one of many not at all."""

    name: str
    steps: PositiveInt
    shares: dict[Kind, PositiveFloat]
    batch: PositiveInt = 32
    muon: PositiveFloat
    rate: PositiveFloat
    ground: bool = False
    grow: PositiveInt | None = None

    @model_validator(mode="after")
    def _alone(self) -> TrainStep:
        if "seeing" in self.shares and len(self.shares) > 1:
            raise ValueError("seeing takes a step of its own; leave the other shares out")
        return self


class MiniRecipe(_Strict):
    out: Path
    seed: int = 0
    pictures: PositiveInt
    steps: tuple[TrainStep, ...]
