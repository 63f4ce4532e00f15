"""GRPO by TRL's trainer: a model writes answers to questions, and rules reward them.

What is learned is how much better an answer is than the others to its question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from PIL import Image
from transformers import TrainingArguments
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from llava_cot.core.question import Question
from llava_cot.core.stages import parse, validate
from llava_cot.data.record import Record
from llava_cot.data.rollouts.labeling import is_right
from llava_cot.data.rollouts.rollout_writer import first_question
from llava_cot.errors import DataError
from llava_cot.models.local.checkpoint import Checkpoint, quiet
from llava_cot.train.encode import conversation, load_pictures
from llava_cot.train.recipe import TrainRecipe
from llava_cot.train.trainer import RecipeTrainer, training_arguments
from llava_cot.train.training_rows import TrainingPlan

# What TRL's trainer gives to a model besides the tokens (1.16, `_get_per_token_logps_and_entropies`).
_PASSED = frozenset({
    "image_grid_thw", "image_position_ids", "image_sizes", "mm_token_type_ids", "pixel_attention_mask",
    "pixel_values", "spatial_shapes", "token_type_ids",
})  # fmt: skip


def conclusion_reward(text: str, question: Question) -> float:
    """1 if the conclusion is right, as `data rollouts` labels it; 0 if it is wrong or words do not tell."""
    return float(is_right(text, question) is True)


def format_reward(text: str, question: Question) -> float:
    """1 if there are stages, all well-formed, and no text outside of them; stages may be absent."""
    departures = {departure.kind for departure in validate(text)}
    return float(bool(text.strip()) and departures <= {"absent"})


def stages_reward(text: str, question: Question) -> float:
    """The share of the stages that are there, with text in them."""
    stages = parse(text).stages.values()
    return sum(bool(stage) for stage in stages) / len(stages)


RULES: dict[str, Callable[[str, Question], float]] = {
    "conclusion": conclusion_reward,
    "format": format_reward,
    "stages": stages_reward,
}


def check_architecture(checkpoint: Checkpoint) -> None:
    """Raise DataError if TRL's trainer does not give a model all that it reads of a picture."""
    content = [
        {"type": "image", "image": Image.new("RGB", (64, 64))},
        {"type": "text", "text": "What is it?"},
    ]
    with quiet():
        read = checkpoint.processor.apply_chat_template(
            [[{"role": "user", "content": content}]],
            add_generation_prompt=True, tokenize=True, return_dict=True,
        )  # fmt: skip
    missing = sorted(set(read) - {"input_ids", "attention_mask"} - _PASSED)
    config = checkpoint.model.config
    if not missing and not hasattr(config, "image_token_id"):
        missing = ["image_token_id"]
    if missing:
        raise DataError(
            f"objective: grpo cannot train {config.model_type}, of which TRL's trainer does not know "
            f"{', '.join(missing)}; sample answers with `llava-cot data rollouts` and train on them with "
            "objective: sft (on the right ones) or objective: dpo"
        )


def grpo_arguments(recipe: TrainRecipe, checkpoints: Path, steps: int) -> TrainingArguments:
    """The trainer's arguments for a recipe. Raises DataError, as `training_arguments`."""
    settings = recipe.grpo_settings
    return training_arguments(
        recipe,
        checkpoints,
        steps,
        kind=GRPOConfig,
        per_device_train_batch_size=recipe.batch * settings.samples,
        num_generations=settings.samples,
        max_completion_length=settings.tokens,
        temperature=settings.temperature,
        reward_weights=[getattr(settings.rewards, name) for name in RULES],
        chat_template_kwargs=recipe.chat_template_kwargs,
        shuffle_dataset=False,  # the plan has the order
        gradient_checkpointing=recipe.gradient_checkpointing,
        include_num_input_tokens_seen="no",  # TRL counts them
    )


class GrpoTrainer(RecipeTrainer, GRPOTrainer):
    """TRL's GRPOTrainer on the questions of a plan, in its order, with the rules as rewards."""

    def __init__(self, recipe: TrainRecipe, processor: Any, plan: TrainingPlan, **settings: Any) -> None:
        records = plan.rows.records
        questions = [first_question(record) for record in records]
        super().__init__(
            reward_funcs=[_reward(name, questions, processor.tokenizer) for name in RULES],
            train_dataset=Dataset.from_dict({"row": [plan.units[unit][0] for unit in plan.order]}),
            processing_class=processor,
            **settings,
        )
        collator: Any = _Prompts(recipe, records)  # pictures are read when their questions come
        self.data_collator = collator

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Leave checkpoints without a model card of TRL's."""


class _Prompts:
    """Makes prompts, as TRL takes them, of the numbers of rows."""

    def __init__(self, recipe: TrainRecipe, records: Sequence[Record]) -> None:
        self._recipe, self._records = recipe, records

    def __call__(self, rows: Sequence[Mapping[str, int]]) -> list[dict[str, Any]]:
        return [{"row": row["row"], "prompt": self._prompt(self._records[row["row"]])} for row in rows]

    def _prompt(self, record: Record) -> list[dict[str, Any]]:
        message = conversation(record, self._recipe.target, load_pictures(record))[0]
        content = [
            {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part.pil}
            for part in message.parts
        ]
        return [{"role": "user", "content": content}]


def _reward(name: str, questions: Sequence[Question], tokenizer: Any) -> Callable[..., list[float]]:
    """A rule as TRL calls it, with the ids of answers and the numbers of the rows that they answer."""

    def reward(*, completion_ids: list[list[int]], row: list[int], **_: Any) -> list[float]:
        texts = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        return [RULES[name](text, questions[number]) for text, number in zip(texts, row, strict=True)]

    reward.__name__ = name
    return reward
