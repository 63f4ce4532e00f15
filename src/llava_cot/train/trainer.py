"""transformers' Trainer for recipes: its arguments, a schedule by epochs, the loss of the labeled tokens."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from safetensors.torch import save_model as save_weights
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.utils import SAFE_WEIGHTS_NAME

from llava_cot.errors import DataError
from llava_cot.train.encode import IGNORE
from llava_cot.train.recipe import TrainRecipe

_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup", "step": "constant"}


def training_arguments(
    recipe: TrainRecipe,
    checkpoints: Path,
    steps: int,
    layers: Sequence[str] = (),
    kind: type[TrainingArguments] = TrainingArguments,
    **more: Any,
) -> TrainingArguments:
    """The Trainer's arguments for a recipe; FSDP shards each layer of the classes `layers` by itself.

    `kind` is their class, and `more` are arguments of that. Raises DataError if this machine does not have
    what the recipe needs.
    """
    on_cpu = not torch.accelerator.is_available()
    if recipe.precision == "float16" and not torch.cuda.is_available():
        raise DataError("precision: float16 needs a CUDA device, and there is none; use bfloat16 or float32")
    sharding: dict[str, Any] = {}
    if recipe.fsdp is not None:
        sharding["fsdp"] = True
        sharding["fsdp_config"] = {
            "version": 2,
            "reshard_after_forward": recipe.fsdp.reshard,
            "cpu_offload": recipe.fsdp.offload,
            "activation_checkpointing": recipe.gradient_checkpointing,
            "state_dict_type": "SHARDED_STATE_DICT",
            "transformer_layer_cls_to_wrap": list(layers),
        }
    settings: dict[str, Any] = {
        "output_dir": str(checkpoints),
        "per_device_train_batch_size": recipe.batch,
        "gradient_accumulation_steps": recipe.accumulate,
        "num_train_epochs": recipe.epochs or 1,
        "max_steps": steps,
        "learning_rate": recipe.rate,
        "lr_scheduler_type": _SCHEDULES[recipe.schedule],
        "warmup_steps": recipe.warmup,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.clip or 0.0,
        "bf16": recipe.precision == "bfloat16",
        "fp16": recipe.precision == "float16",
        "activation_checkpointing": recipe.gradient_checkpointing and recipe.fsdp is None,
        "seed": recipe.seed,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would log an earlier mean in place of a loss that is not finite
        "include_num_input_tokens_seen": "non_padding",
        "save_strategy": "steps",
        "save_steps": recipe.save_every,
        "eval_strategy": "steps" if recipe.loss_every else "no",
        "eval_steps": recipe.loss_every,
        "per_device_eval_batch_size": 1,  # the data set gives whole batches
        "prediction_loss_only": True,
        "label_names": ["labels"],
        "remove_unused_columns": False,
        "train_sampling_strategy": "sequential",  # the data set has the order
        "dataloader_num_workers": recipe.workers,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "use_cpu": on_cpu,
        "disable_tqdm": True,
        "report_to": ["wandb"] if "wandb" in recipe.log else [],
    }
    return kind(**settings | sharding | more)


class RecipeTrainer(Trainer):
    """A Trainer with the schedule of a recipe, whose checkpoints can be resumed for every architecture.

    `factor` is that of the learning rate at a step; without it the arguments' schedule counts.
    """

    def __init__(self, *, factor: Callable[[int], float] | None, **settings: Any) -> None:
        super().__init__(**settings)
        self.remove_callback(PrinterCallback)  # it prints to standard output
        self._factor = factor

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.args.fsdp and self.accelerator.distributed_type == DistributedType.MULTI_CPU:
            # accelerate 1.15 skips FSDP where there is no accelerator, though torch can shard on a CPU.
            state = self.accelerator.state
            state.distributed_type = DistributedType.FSDP
            state.fsdp_plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
            if self.args.bf16:
                state.fsdp_plugin.set_mixed_precision("bf16")
            self.is_fsdp_enabled = True

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self._factor is None:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            chosen: Any = optimizer or self.optimizer
            self.lr_scheduler = LambdaLR(chosen, self._factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Save a checkpoint's weights under the names that the model itself has for them.

        `save_pretrained` writes the names of an architecture's published checkpoints (Mllama, LLaVA); on
        resuming, the Trainer finds none of them and reports nothing (transformers 5.23).
        """
        if isinstance(self.model, PreTrainedModel) and self.args.should_save:
            os.makedirs(str(output_dir), exist_ok=True)
            save_weights(self.model, os.path.join(str(output_dir), SAFE_WEIGHTS_NAME))
        else:
            super()._save(output_dir, state_dict)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        model: Any = self.model
        missing = set(load_result.missing_keys) - set(model.all_tied_weights_keys)
        if missing or load_result.unexpected_keys:
            raise DataError(
                f"the last checkpoint lacks {min(missing, default='nothing')} of this model's weights; "
                "remove its folder to resume from the one before"
            )


class StagedTrainer(RecipeTrainer):
    """A Trainer whose loss is the mean over all labeled tokens of an optimizer step.

    That holds for any number of devices and micro-batches, and for every architecture; some of transformers'
    own losses ignore the number of tokens and give each micro-batch the same weight.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.model_accepts_loss_kwargs = True  # so that compute_loss gets the number of labeled tokens
        model: Any = self.model
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._takes_keep = "logits_to_keep" in inspect.signature(inner.forward).parameters

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        outputs, labels, keep = self._outputs(model, inputs)
        loss = answer_loss(outputs.logits, labels, keep, num_items_in_batch)
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over processes
        return (loss, outputs) if return_outputs else loss

    def _outputs(self, model: Any, inputs: dict[str, Any]) -> tuple[Any, Tensor, int]:
        """What a model makes of a batch, its labels, and how many positions at its end they need."""
        inputs = dict(inputs)
        labels, keep = inputs.pop("labels"), inputs.pop("logits_to_keep")
        if self._takes_keep:
            inputs["logits_to_keep"] = keep
        return model(**inputs, use_cache=False), labels, keep


def step_factor(gamma: float, warmup: int, epoch_of: Callable[[int], int]) -> Callable[[int], float]:
    """The factor of torch's StepLR, once an epoch, after a linear warm-up, by step."""
    return lambda step: min(1.0, (step + 1) / (warmup + 1)) * gamma ** epoch_of(step)


def answer_loss(logits: Tensor, labels: Tensor, keep: int, count: Tensor | int | None = None) -> Tensor:
    """The cross-entropy of the labeled tokens, divided by `count`, or by their number.

    Args:
        logits: [rows, at least `keep`, vocabulary]; its last position is that of `labels`. Only labeled
            positions are converted to float32.
        labels: [rows, length].
        keep: How many positions at the end hold all labels and the position before the first one.
        count: The labeled tokens of the whole optimizer step.
    """
    targets = labels[:, labels.shape[1] - keep + 1 :]
    marked = targets != IGNORE
    chosen = logits[:, -keep:-1][marked].float()
    total = F.cross_entropy(chosen, targets[marked], reduction="sum")
    return total / (marked.sum() if count is None else count)
