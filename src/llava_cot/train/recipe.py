"""A recipe: the YAML file that names data, model and settings of one training run.

Owns the fields, their defaults and what is refused. Imports nothing that trains.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)


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
    """All settings of a run; docs/reference/recipes.md tells them."""

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
