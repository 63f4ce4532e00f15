"""Numbers for rows, computed by a Trainer's model as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from llava_cot.train.batch_dataset import BatchDataset
from llava_cot.train.collate import even_batches
from llava_cot.train.encode import RowEncoder
from llava_cot.train.trainer import StagedTrainer
from llava_cot.train.training_rows import RowSet


def score_rows(
    trainer: StagedTrainer,
    encoder: RowEncoder,
    rows: RowSet,
    wanted: Sequence[int],
    max_tokens: int,
    compute: Callable[[Any, dict[str, Any]], Tensor],
    first: int = 0,
) -> Iterator[dict[int, list[float]]]:
    """What `compute` gives for rows, by their number: in each process all of it, computed by all processes.

    Nothing is drawn from the random state, and no gradient is kept.

    Args:
        wanted: The numbers of the rows.
        compute: From the model and a batch, numbers for each of its rows: [rows, numbers].
        first: Added to the numbers in the batches.
    """
    pictured, lengths = rows.pictured, rows.lengths
    batches = even_batches(
        [pictured[i] for i in wanted],
        [lengths[i] for i in wanted],
        trainer.args.per_device_train_batch_size,
        trainer.args.world_size,
    )
    numbers = [[wanted[i] for i in batch] for batch in batches]
    dataset = BatchDataset(encoder, rows, numbers, max_tokens, first)
    model: Any = trainer.model_wrapped
    was_training = model.training
    model.eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # the data loader draws a number
        for batch in trainer.get_eval_dataloader(dataset):
            inputs = trainer._prepare_inputs(batch)
            with trainer.compute_loss_context_manager():
                found = compute(model, inputs)
            own = zip((inputs["numbers"] - first).tolist(), found.tolist(), strict=True)
            yield dict(gather_object(list(own)))
    model.train(was_training)
