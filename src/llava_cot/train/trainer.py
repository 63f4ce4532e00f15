"""transformers' Trainer with our loss and our schedule by epochs.

Owns the loss: the mean over all learned tokens of a step, whatever the devices and micro-batches they are on,
for every architecture (some of them leave the count of tokens out, and would weigh each micro-batch alike).
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from safetensors.torch import save_model as save_weights
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, Trainer
from transformers.trainer_callback import PrinterCallback
from transformers.utils import SAFE_WEIGHTS_NAME

from llava_cot.errors import DataError
from llava_cot.train.encode import IGNORE


class StagedTrainer(Trainer):
    """`factor` gives what the rate is multiplied with at a step, where the recipe has a schedule of ours."""

    def __init__(self, *, factor: Callable[[int], float] | None, **settings: Any) -> None:
        super().__init__(**settings)
        self.remove_callback(PrinterCallback)  # it prints to standard output
        self._factor = factor
        self.model_accepts_loss_kwargs = True  # the count of learned tokens is for compute_loss
        model: Any = self.model
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._keeps = "logits_to_keep" in inspect.signature(inner.forward).parameters

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.args.fsdp and self.accelerator.distributed_type == DistributedType.MULTI_CPU:
            # accelerate 1.15 passes FSDP over where there is no accelerator; torch shards on a CPU just so.
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
        """A checkpoint's weights, under the names that the model has for them.

        `save_pretrained` writes the names of an architecture's published checkpoints (Mllama, LLaVA), of
        which Trainer finds none when it goes on, and says nothing (transformers 5.23).
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
                "remove its folder to go on from the one before"
            )

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        inputs = dict(inputs)
        labels, keep = inputs.pop("labels"), inputs.pop("logits_to_keep")
        if self._keeps:
            inputs["logits_to_keep"] = keep
        outputs = model(**inputs, use_cache=False)
        loss = learned_loss(outputs.logits, labels, keep, num_items_in_batch)
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over processes
        return (loss, outputs) if return_outputs else loss


def learned_loss(logits: Tensor, labels: Tensor, keep: int, count: Tensor | int | None = None) -> Tensor:
    """The cross-entropy of the learned tokens, divided by `count`, or else by how many there are.

    logits [rows, at least `keep`, vocabulary] end where labels [rows, length] end. Only positions that are
    learned are raised to float32.
    """
    targets = labels[:, labels.shape[1] - keep + 1 :]
    marked = targets != IGNORE
    chosen = logits[:, -keep:-1][marked].float()
    total = F.cross_entropy(chosen, targets[marked], reduction="sum")
    return total / (marked.sum() if count is None else count)


def step_factor(gamma: float, warmup: int, epoch_of: Callable[[int], int]) -> Callable[[int], float]:
    """torch's StepLR, once an epoch, after a linear warm-up."""
    return lambda step: min(1.0, (step + 1) / (warmup + 1)) * gamma ** epoch_of(step)
