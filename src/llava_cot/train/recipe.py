"""The training recipe: the YAML file that names model, data and settings of a run. Imports nothing heavy."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

TrainTarget = Literal["staged", "untagged", "direct"]
Objective = Literal["sft", "implicit", "dpo", "reward", "grpo"]
StepLabels = Literal["outcome", "stages"]
Logger = Literal["tensorboard", "wandb"]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainData(_Settings):
    """Records to train on."""

    path: str = Field(
        description="For `sft` and `grpo`, a folder with `train.jsonl` or `questions.jsonl`, or a file of "
        "records; for other objectives a folder with `rollouts.jsonl` (`dpo` also takes "
        "`preferences.jsonl`), or such a file. Of rollouts, `sft` learns the right answers."
    )
    repeat: PositiveFloat = Field(
        1.0, description="How often each record comes in an epoch; 0.5 is every other one, at random."
    )


class LoraSettings(_Settings):
    """Low-rank adapters."""

    rank: PositiveInt = Field(16, description="The rank of the adapters.")
    alpha: PositiveInt = Field(32, description="Their scale, as peft defines it.")
    dropout: float = Field(0.0, ge=0, lt=1, description="The dropout before each adapter.")
    targets: list[str] | None = Field(
        None,
        description="The endings of the layers' names; by default all linear layers of the text model, "
        "except its output layer.",
    )


class EvaluationSettings(_Settings):
    """What a run is measured on: the loss on records while it trains, and the score before and after it."""

    path: str | None = Field(None, description="Other records to measure the loss on.")
    share: float | None = Field(
        None, gt=0, lt=1, description="Or the share of the data that is held out for it."
    )
    every: PositiveInt | None = Field(
        None, description="The number of steps from one measurement of the loss to the next."
    )
    bench: str | None = Field(
        None,
        description="A benchmark, or a file or folder of questions, as for `llava-cot eval`: the model "
        "answers it before and after training, and the run ends with both scores.",
    )
    limit: PositiveInt = Field(200, description="The number of its questions, from the first on.")
    method: str = Field(
        "direct",
        description="How they are put: `direct`, as they are, as in training; `single` also prompts a model "
        "that does not write the stages for each of them. Decoding is greedy.",
    )
    tokens: PositiveInt = Field(2048, description="The most new tokens of an answer to them.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        on_loss = self.path is not None or self.share is not None
        if (self.path is not None and self.share is not None) or not (on_loss or self.bench):
            raise ValueError("give either path or share, for the loss, or bench, for the score, or both")
        if on_loss != (self.every is not None):
            raise ValueError("path and share need every, the number of steps, and nothing else does")
        return self


class SampleSettings(_Settings):
    """Answers that are written during training, to the held-out questions or else those of the data."""

    count: PositiveInt = Field(4, description="The number of questions.")
    every: PositiveInt = Field(description="The number of steps from one set of answers to the next.")
    tokens: PositiveInt = Field(512, description="The most new tokens of one answer; decoding is greedy.")


class ImplicitSettings(_Settings):
    """The reward beta x log(model / reference) of whole answers, which is to be higher for right ones."""

    loss: Literal["ce", "dpo"] = Field(
        "ce",
        description="`ce`, the cross-entropy of sigmoid(beta x log-ratio + a free bias) against being right; "
        "`dpo`, DPO's loss of pairs of a right and a wrong answer to one question.",
    )
    beta: PositiveFloat = Field(0.1, description="The factor of the log-ratio.")
    pairs: PositiveInt = Field(
        4, description="The most pairs of a right and a wrong answer that a question has in an epoch."
    )


class LossWeights(_Settings):
    """The weights of the losses of a pair; 0.8, 0.2 and 1 are those of MPO (arXiv 2411.10442)."""

    dpo: NonNegativeFloat = Field(1.0, description="Of DPO's loss.")
    bco: NonNegativeFloat = Field(
        0.0, description="Of BCO's loss, which sorts each answer by itself; without a shift of the rewards."
    )
    sft: NonNegativeFloat = Field(
        0.0, description="Of the cross-entropy of the better answer, a mean over its tokens."
    )

    @model_validator(mode="after")
    def _not_all_zero(self) -> Self:
        if not (self.dpo or self.bco or self.sft):
            raise ValueError("all weights are 0; give one of them a weight")
        return self


class DpoSettings(_Settings):
    """Preference optimization: DPO, or MPO's sum of losses."""

    beta: PositiveFloat = Field(0.1, description="The factor of the log-ratio.")
    pairs: PositiveInt = Field(
        4, description="The most pairs of a right and a wrong answer that a question of rollouts has."
    )
    weights: LossWeights = Field(
        default_factory=lambda: LossWeights.model_validate({}),
        description="The weights of the losses; `{dpo: 0.8, bco: 0.2, sft: 1}` is MPO.",
    )


class RewardSettings(_Settings):
    """A scalar head on the model's states and log-probabilities, which gives a score to each stage so far."""

    labels: StepLabels = Field(
        "outcome",
        description="What a stage's score is to predict: `outcome`, whether the whole answer is right; "
        "`stages`, the share of right answers among completions of it (`data rollouts --completions`).",
    )
    rank: NonNegativeFloat = Field(
        1.0,
        description="The weight of the rank loss beside the value loss: at the same stage of a right and a "
        "wrong answer to one question, the higher value is to have the higher score (arXiv 2504.10222).",
    )
    pairs: PositiveInt = Field(
        4, description="The most pairs of a right and a wrong answer that a question has in an epoch."
    )


class RuleWeights(_Settings):
    """The weights of the rules that reward an answer; each gives 0 to 1."""

    conclusion: NonNegativeFloat = Field(
        1.0, description="Of a right conclusion, by the comparison that labels rollouts."
    )
    format: NonNegativeFloat = Field(
        0.25,
        description="Of well-formed stages: each once, in order, complete, and no text outside of them.",
    )
    stages: NonNegativeFloat = Field(0.25, description="Of the share of the stages that are there.")

    @model_validator(mode="after")
    def _not_all_zero(self) -> Self:
        if not (self.conclusion or self.format or self.stages):
            raise ValueError("all weights are 0; give one of them a weight")
        return self


class GrpoSettings(_Settings):
    """Reinforcement learning by GRPO (arXiv 2402.03300): answers to one question are compared."""

    samples: int = Field(
        8, ge=2, description="The answers to a question in a step, which are compared with each other."
    )
    tokens: PositiveInt = Field(512, description="The most new tokens of an answer.")
    temperature: PositiveFloat = Field(1.0, description="The temperature at which they are sampled.")
    rewards: RuleWeights = Field(
        default_factory=lambda: RuleWeights.model_validate({}),
        description="The weights of the rules. By default a right answer is worth more than all else.",
    )


class FsdpSettings(_Settings):
    """Weights, gradients and optimizer state in shards over all processes (FSDP 2)."""

    reshard: bool = Field(True, description="Free a layer's gathered weights right after its use.")
    offload: bool = Field(False, description="Hold the shards in the memory of the CPU.")


class TrainRecipe(_Settings):
    """All settings of a training run."""

    model: str = Field(
        description="The checkpoint to start from: its folder, its name on the hub (`org/name`), or `mini`; "
        "or an adapter's, which is merged into its model first."
    )
    out: str = Field(description="The folder of the run.")
    data: list[TrainData] = Field(min_length=1, description="The records to train on, as a list.")
    objective: Objective = Field(
        "sft",
        description="What is trained: `sft`, the model to give the answers of records; `implicit`, a reward "
        "model to tell right from wrong answers of rollouts by their log-ratio; `dpo`, the model to prefer "
        "the better of two answers, of `data preferences` or of rollouts; `reward`, a reward model with a "
        "scalar head that scores the stages of answers of rollouts; `grpo`, the model by rewards of rules "
        "for answers that it writes to the questions of records.",
    )
    implicit: ImplicitSettings | None = Field(None, description="Settings of `objective: implicit`.")
    dpo: DpoSettings | None = Field(None, description="Settings of `objective: dpo`.")
    reward: RewardSettings | None = Field(None, description="Settings of `objective: reward`.")
    grpo: GrpoSettings | None = Field(None, description="Settings of `objective: grpo`.")
    target: TrainTarget = Field(
        "staged",
        description="What the model learns to answer: `staged`, the response in its stages; `untagged`, the "
        "same text without tags; `direct`, the reference answer alone.",
    )
    epochs: PositiveFloat | None = Field(
        None, description="The number of epochs; by default one. Excludes `steps`."
    )
    steps: PositiveInt | None = Field(None, description="The number of optimizer steps. Excludes `epochs`.")
    batch: PositiveInt = Field(
        8, description="The rows, pairs of rows, or for `grpo` questions, in one batch on one device."
    )
    accumulate: PositiveInt = Field(1, description="The batches in one optimizer step.")
    rate: PositiveFloat = Field(1e-5, description="The highest learning rate (AdamW).")
    schedule: Literal["cosine", "linear", "constant", "step"] = Field(
        "cosine", description="How the rate falls; `step` multiplies it by `gamma` after each epoch."
    )
    gamma: float | None = Field(None, gt=0, le=1, description="The factor of `schedule: step`.")
    warmup: float = Field(
        0.0, ge=0, description="The steps in which the rate rises, or below 1 their share of all steps."
    )
    weight_decay: float = Field(0.0, ge=0, description="The weight decay of matrices.")
    clip: PositiveFloat | None = Field(
        1.0, description="The greatest norm of the gradient; `null` for no clipping."
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description="`bfloat16` and `float16` are mixed precision with weights in float32. With `lora`, the "
        "base model is held in this type.",
    )
    lora: LoraSettings | None = Field(None, description="Train low-rank adapters only.")
    freeze: list[str] = Field(
        default_factory=list,
        description="The parts that are not trained: `vision`, `projector`, or a module's name.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations again in the backward pass instead of keeping them."
    )
    group_by_length: bool = Field(True, description="Put rows of similar length in one batch.")
    max_tokens: PositiveInt | None = Field(
        None, description="The longest row, image tokens included; by default the model's context."
    )
    over_long: Literal["drop", "cut", "refuse"] = Field(
        "drop", description="What to do with longer rows: drop them, cut them at the end, or stop."
    )
    unreadable: Literal["refuse", "drop"] = Field(
        "refuse", description="What to do with records whose pictures cannot be read: stop, or drop them."
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of the chat template."
    )
    double_bos: bool = Field(
        False,
        description="Begin each row with two begin-of-text tokens, as the published LLaVA-CoT code does. Use "
        "the same setting at inference.",
    )
    evaluate: EvaluationSettings | None = Field(
        None, description="Measure the loss on held-out records, and the score before and after training."
    )
    samples: SampleSettings | None = Field(None, description="Write answers during training.")
    save_every: PositiveInt = Field(500, description="The number of steps from one checkpoint to the next.")
    keep: PositiveInt = Field(2, description="How many checkpoints to keep.")
    workers: int = Field(0, ge=0, description="The processes that prepare rows, for each device.")
    seed: int = Field(
        42, ge=0, lt=2**32, description="The seed of the order of rows, of adapters and dropout."
    )
    log: list[Logger] = Field(
        ["tensorboard"],
        description="Where to log besides `log.jsonl`: `tensorboard`, and `wandb` where it is installed.",
    )
    fsdp: FsdpSettings | None = Field(None, description="Shard the model over all processes.")

    @property
    def implicit_settings(self) -> ImplicitSettings:
        """The settings of `objective: implicit`, which need not be given."""
        return self.implicit or ImplicitSettings.model_validate({})

    @property
    def reward_settings(self) -> RewardSettings:
        """The settings of `objective: reward`, which need not be given."""
        return self.reward or RewardSettings.model_validate({})

    @property
    def dpo_settings(self) -> DpoSettings:
        """The settings of `objective: dpo`, which need not be given."""
        return self.dpo or DpoSettings.model_validate({})

    @property
    def grpo_settings(self) -> GrpoSettings:
        """The settings of `objective: grpo`, which need not be given."""
        return self.grpo or GrpoSettings.model_validate({})

    @property
    def labeled(self) -> bool:
        """Whether it learns from answers that are right or wrong, or better or worse than another."""
        return self.objective not in ("sft", "grpo")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give either epochs or steps")
        if (self.gamma is None) == (self.schedule == "step"):
            raise ValueError("schedule: step needs a gamma, and no other schedule takes one")
        for name in ("implicit", "dpo", "reward", "grpo"):
            if getattr(self, name) is not None and self.objective != name:
                raise ValueError(f"{name}: its settings are for objective: {name}; set that, or remove them")
        if self.objective != "sft":
            for name, plain in (("target", "staged"), ("samples", None)):
                if getattr(self, name) != plain:
                    raise ValueError(f"{name} is for objective: sft; remove it")
            answers = self.objective in ("dpo", "grpo")
            if not answers and self.evaluate is not None and self.evaluate.bench is not None:
                raise ValueError(
                    "evaluate.bench is for objective: sft, dpo and grpo; a reward model is not to answer"
                )
            if self.objective in ("reward", "grpo") and self.fsdp is not None:
                raise ValueError(f"fsdp is not for objective: {self.objective}; remove it")
            if self.over_long == "cut":
                raise ValueError("over_long: cut is for objective: sft; whole answers are scored here")
        if self.objective == "grpo":
            if self.loss_every:
                raise ValueError("objective: grpo has no loss of held-out records; give evaluate.bench alone")
            if self.double_bos:
                raise ValueError("double_bos is not for objective: grpo; remove it")
        return self

    @property
    def loss_every(self) -> int | None:
        """The number of steps from one measurement of the loss to the next; None if it is not measured."""
        return None if self.evaluate is None else self.evaluate.every
