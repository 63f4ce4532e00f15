"""The recipe of mini: how many pictures, and the steps of its training, in order."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from llava_cot.core.files import read_recipe
from llava_cot.errors import DataError
from research.mini.examples import Target

Kind = Literal["seeing", "captions", "answers", "duels", "checks", "endings"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainStep(_Strict):
    """So many batches, their kinds drawn by shares. Rates are peaks: `muon` of the layers' matrices, `rate`
    of all else. `ground` first starts the projector from what the picture encoder can be read to see."""

    name: str
    steps: PositiveInt
    shares: dict[Kind, PositiveFloat]
    batch: PositiveInt = 32
    muon: PositiveFloat
    rate: PositiveFloat
    ground: bool = False
    sampled: str | None = None  # the step whose duels and checks are mixed in

    @model_validator(mode="after")
    def _alone(self) -> TrainStep:
        if "seeing" in self.shares and len(self.shares) > 1:
            raise ValueError("seeing takes a step of its own; leave the other shares out")
        return self


class SampleStep(_Strict):
    """Duels and checks from what mini itself answers, so many scenes each, labeled by the truth."""

    name: str
    sample_captions: PositiveInt
    sample_answers: PositiveInt


Step = Annotated[TrainStep | SampleStep, Field(union_mode="left_to_right")]


class MiniRecipe(_Strict):
    """`like` takes pictures and steps of another recipe in the same folder, from the step after `start` on;
    what comes before is that recipe's own run."""

    mini: Target
    out: Path
    seed: int = 0
    pictures: PositiveInt | None = None
    steps: tuple[Step, ...] = ()
    like: str | None = None
    start: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> MiniRecipe:
        if self.like is None and not (self.pictures and self.steps):
            raise ValueError("give pictures and steps, or the name of a recipe that it is like")
        if self.like is not None and (self.pictures or self.steps or not self.start):
            raise ValueError("a recipe like another one has a start, and neither pictures nor steps")
        return self


def whole_recipe(recipe: MiniRecipe, path: Path) -> MiniRecipe:
    """The recipe that has the pictures and steps: this one, or the one that it is like. Raises DataError."""
    if recipe.like is None:
        return recipe
    other = path.parent / recipe.like
    whole = read_recipe(other, MiniRecipe)
    names = [step.name for step in whole.steps]
    if whole.like is not None or recipe.start not in names:
        raise DataError(f"{path}: start is {recipe.start!r}; the steps of {other} are {', '.join(names)}")
    if whole.out == recipe.out:
        raise DataError(f"{path}: out is that of {other}; name another folder")
    return whole
