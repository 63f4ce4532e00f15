"""GRPO by TRL's trainer: a model writes answers to questions, and rules reward them.

What is learned is how much better an answer is than the others to its question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import TrainingArguments
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import pad

from llava_cot.core.question import Question
from llava_cot.core.stages import parse, validate
from llava_cot.data.record import Record
from llava_cot.data.rollouts.labeling import is_right
from llava_cot.data.rollouts.rollout_writer import first_question
from llava_cot.errors import DataError
from llava_cot.train.encode import conversation, load_pictures
from llava_cot.train.recipe import TrainRecipe
from llava_cot.train.trainer import RecipeTrainer, training_arguments
from llava_cot.train.training_rows import TrainingPlan

# The architectures in whose batches TRL's trainer (1.16) computes the log-probabilities that each answer has
# alone, Mllama by `MllamaGrpoTrainer`. With others it fails, or leaves out a part of what they read of
# pictures, or shifts it: `make sweep`.
TAKEN = frozenset({
    "cohere_compass", "cosmos3_omni", "dots3_note", "gemma3", "glm46v", "glm4v", "glm_ocr", "glmga",
    "granite_docling", "hyperclovax_vision_v2", "idefics2", "idefics3", "internvl", "lfm2_vl", "lfm3_vl",
    "llava", "llava_next", "mllama", "muse_glimmer", "muse_spark", "pp_chart2table", "qwen2_5_omni_thinker",
    "qwen2_5_vl", "qwen2_vl", "qwen3_vl", "qwen3_vl_moe", "smolvlm", "vipllava",
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


def check_architecture(kind: str) -> None:
    """Raise DataError if GRPO does not train an architecture, a configuration's `model_type`."""
    if kind not in TAKEN:
        raise DataError(
            f"objective: grpo cannot train {kind}: TRL's trainer does not pass on its pictures rightly, or "
            "was not tried with it (docs/how-to/train.md has the list); sample answers with `llava-cot data "
            "rollouts`, and train on them with objective: sft (on the right ones) or objective: dpo"
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
        processor.tokenizer.padding_side = "left"  # as TRL pads the ids, beside which its types of tokens are
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


# What Mllama reads of pictures besides their pixels; the mask says which of them each token sees.
_MASK = "cross_attention_mask"
_PICTURES = ("aspect_ratio_ids", "aspect_ratio_mask", _MASK)


class MllamaGrpoTrainer(GrpoTrainer):
    """Gives Mllama all that it reads of pictures: TRL (1.16) passes on pixels alone, and shifts the mask."""

    _pictures: dict[str, Tensor]  # of the prompts that are answered; empty if they have no pictures

    def _generate_single_turn(self, prompt_ids: Any, images: Any, multimodal_fields: Any, *more: Any) -> Any:
        fields, self._pictures = dict(multimodal_fields), {}
        if images is not None:
            # The processor's rows begin with a prompt's first token; TRL pads the prompts' ids on the left.
            rows = zip(fields[_MASK], prompt_ids, strict=True)
            fields[_MASK] = pad([torch.as_tensor(row[: len(ids)]) for row, ids in rows], padding_side="left")
            device = self.accelerator.device
            self._pictures = {name: torch.as_tensor(fields[name], device=device) for name in _PICTURES}
        return super()._generate_single_turn(prompt_ids, images, fields, *more)  # type: ignore[no-untyped-call]

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        batch = super()._generate_and_score_completions(inputs) | self._pictures
        if _MASK in batch:
            # Answers see what the last token of their prompt sees.
            seen = batch[_MASK][:, -1:].expand(-1, batch["completion_ids"].shape[1], -1, -1)
            batch[_MASK] = torch.cat([batch[_MASK], seen], 1)
        return batch

    def compute_loss(self, model: Any, inputs: Any, *more: Any, **others: Any) -> Any:
        given = {name: inputs[name] for name in _PICTURES if name in inputs}
        return super().compute_loss(partial(model, **given), inputs, *more, **others)


def make_grpo_trainer(
    recipe: TrainRecipe, processor: Any, plan: TrainingPlan, *, model: Any, **settings: Any
) -> GrpoTrainer:
    """The trainer for a model's architecture."""
    kind = MllamaGrpoTrainer if model.config.model_type == "mllama" else GrpoTrainer
    return kind(recipe, processor, plan, model=model, **settings)


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
