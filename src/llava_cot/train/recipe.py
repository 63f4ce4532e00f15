"""A recipe: the YAML file that names data, model and settings of one training run.

Owns the fields, their defaults and what is refused. Imports nothing that trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from llava_cot.data.records import DataError


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Part):
    """Records to learn from: `train.jsonl` of a folder, or a file. In an epoch each comes `repeat` times."""

    path: str
    repeat: PositiveFloat = 1.0


class Lora(_Part):
    """Low-rank adapters, for the linear layers of the text model, or those whose names end so."""

    rank: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: list[str] | None = None


class Evaluate(_Part):
    """What the loss is measured on: other records, or a share of the data, which is then not learned."""

    path: str | None = None
    share: float | None = Field(None, gt=0, lt=1)
    every: PositiveInt

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.path is None) == (self.share is None):
            raise ValueError("give either path or share")
        return self


class Samples(_Part):
    """Answers that are written while training, to questions of the evaluation, or else of the data."""

    count: PositiveInt = 4
    every: PositiveInt
    tokens: PositiveInt = 512


class Fsdp(_Part):
    """Weights, gradients and optimiser in shards; `reshard` frees a layer after its use."""

    reshard: bool = True
    offload: bool = False


def _tensorboard() -> list[Literal["tensorboard", "wandb"]]:
    return ["tensorboard"]


class Recipe(_Part):
    """All settings of a run; docs/train.md tells them."""

    model: str
    out: str
    data: list[Data] = Field(min_length=1)
    target: Literal["staged", "untagged", "direct"] = "staged"
    epochs: PositiveFloat | None = None
    steps: PositiveInt | None = None
    batch: PositiveInt = 8
    accumulate: PositiveInt = 1
    rate: PositiveFloat = 1e-5
    schedule: Literal["cosine", "linear", "constant", "step"] = "cosine"
    gamma: float | None = Field(None, gt=0, le=1)
    warmup: float = Field(0.0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    clip: PositiveFloat | None = 1.0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    lora: Lora | None = None
    freeze: list[str] = Field(default_factory=list)
    gradient_checkpointing: bool = False
    group_by_length: bool = True
    max_tokens: PositiveInt | None = None
    over_long: Literal["drop", "cut", "refuse"] = "drop"
    double_bos: bool = False
    evaluate: Evaluate | None = None
    samples: Samples | None = None
    save_every: PositiveInt = 500
    keep: PositiveInt = 2
    workers: int = Field(0, ge=0)
    seed: int = Field(42, ge=0, lt=2**32)
    log: list[Literal["tensorboard", "wandb"]] = Field(default_factory=_tensorboard)
    fsdp: Fsdp | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give either epochs or steps")
        if (self.gamma is None) == (self.schedule == "step"):
            raise ValueError("schedule: step needs a gamma, and no other has one")
        return self


def load_recipe(path: str | Path) -> Recipe:
    """Raises DataError, a sentence with the file and the field."""
    return make_recipe(read_yaml(path), str(path))


def read_yaml(path: str | Path) -> Mapping[str, Any]:
    """The settings in a YAML file. Raises DataError."""
    try:
        read = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read the recipe {path}: {(error.strerror or str(error)).lower()}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise DataError(
            f"the recipe {path} is no YAML{line}: {getattr(error, 'problem', None) or error}"
        ) from None
    if not isinstance(read, dict):
        raise DataError(f"the recipe {path} has no settings; write lines such as `model: mini`")
    return read


def make_recipe(settings: Mapping[str, Any], name: str) -> Recipe:
    """A recipe of that name from its settings. Raises DataError."""
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        told = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            told = "there is no such field"
        raise DataError(
            f"the recipe {name} is wrong" + (f" at {field}" if field else "") + f": {told}"
        ) from None
