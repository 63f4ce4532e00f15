"""A recipe in the words of transformers' Trainer.

Owns the mapping of fields. Knows no data and no files but the folder of checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from llava_cot.errors import DataError
from llava_cot.train.recipe import Recipe

_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup", "step": "constant"}


def training_arguments(
    recipe: Recipe, checkpoints: Path, steps: int, layers: Sequence[str] = ()
) -> TrainingArguments:
    """`layers` are the classes of layers that FSDP shards each by itself. Raises DataError."""
    on_cpu = not (torch.cuda.is_available() or torch.backends.mps.is_available())
    if recipe.precision == "float16" and not torch.cuda.is_available():
        raise DataError("precision: float16 needs a CUDA device, and there is none; use bfloat16 or float32")
    more: dict[str, Any] = {}
    if recipe.fsdp is not None:
        more["fsdp"] = True
        more["fsdp_config"] = {
            "version": 2,
            "reshard_after_forward": recipe.fsdp.reshard,
            "cpu_offload": recipe.fsdp.offload,
            "activation_checkpointing": recipe.gradient_checkpointing,
            "state_dict_type": "SHARDED_STATE_DICT",
            "transformer_layer_cls_to_wrap": list(layers),
        }
    return TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=recipe.batch,
        gradient_accumulation_steps=recipe.accumulate,
        num_train_epochs=recipe.epochs or 1,
        max_steps=steps,
        learning_rate=recipe.rate,
        lr_scheduler_type=_SCHEDULES[recipe.schedule],
        warmup_steps=recipe.warmup,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.clip or 0.0,
        bf16=recipe.precision == "bfloat16",
        fp16=recipe.precision == "float16",
        activation_checkpointing=recipe.gradient_checkpointing and recipe.fsdp is None,
        seed=recipe.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would write the mean of the losses before where there is none
        include_num_input_tokens_seen="non_padding",
        save_strategy="steps",
        save_steps=recipe.save_every,
        eval_strategy="steps" if recipe.evaluate else "no",
        eval_steps=recipe.evaluate.every if recipe.evaluate else None,
        per_device_eval_batch_size=1,  # its rows are in batches already
        prediction_loss_only=True,
        label_names=["labels"],
        remove_unused_columns=False,
        train_sampling_strategy="sequential",  # the order is in the data
        dataloader_num_workers=recipe.workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=on_cpu,
        disable_tqdm=True,
        report_to=["wandb"] if "wandb" in recipe.log else [],
        **more,
    )
