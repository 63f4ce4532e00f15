"""Rows in batches: the order in which a run sees them, and padding them to one length.

A batch holds only rows with images or only rows without: Mllama's cross-attention layers change a text that
has no image if another row of the batch has one (transformers 5.23).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import chain, count
from typing import Any

import torch.nn.functional as F
from torch import Tensor, cat, tensor

from llava_cot.models.local.encoding import PER_TOKEN
from llava_cot.train.encode import IGNORE, TrainingRow

# Batches that are sorted by length together: rows of similar length meet, and their order stays random.
_SORTED_BATCHES = 50


def run_order(
    *,
    steps: int,
    batch: int,
    pictured: Sequence[bool],
    repeats: Sequence[float],
    lengths: Sequence[int] | None,
    seed: int,
) -> list[int]:
    """The rows of a whole run, a function of the seed, so that a resumed run sees the same.

    Rows that fill no batch wait for the next epoch.

    Args:
        steps: The number of batches.
        batch: Rows in a batch, over all devices.
        pictured: Whether each row has images.
        repeats: How often each row comes in an epoch; a fraction is a probability.
        lengths: The length of each row, to put rows of similar length in one batch.

    Returns:
        `steps` times `batch` row numbers.
    """
    order: list[int] = []
    waiting: dict[bool, list[int]] = {True: [], False: []}
    for epoch in count():
        rng = random.Random(f"{seed}/{epoch}")
        drawn = [i for i, times in enumerate(repeats) for _ in range(int(times) + (rng.random() < times % 1))]
        rng.shuffle(drawn)
        whole: list[list[int]] = []
        for kind, rows in waiting.items():
            rows += [i for i in drawn if pictured[i] is kind]
            ready = len(rows) - len(rows) % batch
            taken, waiting[kind] = rows[:ready], rows[ready:]
            if lengths is not None:
                size = batch * _SORTED_BATCHES
                groups = (taken[i : i + size] for i in range(0, ready, size))
                taken = [i for group in groups for i in sorted(group, key=lengths.__getitem__, reverse=True)]
            whole += [taken[i : i + batch] for i in range(0, ready, batch)]
        rng.shuffle(whole)
        order += chain.from_iterable(whole)
        if len(order) >= steps * batch:
            break
    return order[: steps * batch]


def even_batches(
    pictured: Sequence[bool], lengths: Sequence[int], batch: int, multiple: int
) -> list[list[int]]:
    """All rows in batches, for evaluation on `multiple` devices.

    The batches of each kind (with or without images) are made a multiple by repeating the last one.
    """
    made: list[list[int]] = []
    for kind in (True, False):
        rows = sorted(
            (i for i, has in enumerate(pictured) if has is kind), key=lengths.__getitem__, reverse=True
        )
        some = [rows[i : i + batch] for i in range(0, len(rows), batch)]
        made += some + some[-1:] * (-len(some) % multiple)
    return made


class Collator:
    """Pads rows on the right, with the id `pad`, and joins their images.

    A batch has the model's inputs, `labels`, and `logits_to_keep`: how many positions at its end are needed
    for the loss. Where rows have numbers, it has them as `numbers`;
    where they have steps, `steps` ([steps, 3], the row and both positions) and `values`.
    """

    def __init__(self, pad: int) -> None:
        self._pad = pad

    def __call__(self, rows: Sequence[list[TrainingRow]]) -> dict[str, Any]:
        """Collate the rows of all lists into one batch."""
        flat = [*chain.from_iterable(rows)]
        longest = max(row.length for row in flat)
        batch: dict[str, Any] = {"labels": cat([_padded(row.labels, longest, IGNORE) for row in flat])}
        for name in flat[0].inputs:
            parts = [row.inputs[name] for row in flat]
            if name in PER_TOKEN:
                parts = [_padded(part, longest, self._pad if name == "input_ids" else 0) for part in parts]
            batch[name] = _joined(parts)
        if "aspect_ratio_mask" in batch:
            # As Mllama's processor does for a missing image: a softmax over nothing would be NaN.
            batch["aspect_ratio_mask"][:, :, 0] = 1
        learned = (batch["labels"] != IGNORE).any(0).nonzero()
        batch["logits_to_keep"] = longest - int(learned[0]) + 1 if len(learned) else 1
        if flat[0].number is not None:
            batch["numbers"] = tensor([row.number for row in flat])
        if flat[0].steps is not None:
            parts = [F.pad(row.steps, (1, 0), value=i) for i, row in enumerate(flat) if row.steps is not None]
            batch["steps"] = cat(parts)
            batch["values"] = cat([row.values for row in flat if row.values is not None])
        return batch


def _padded(tensor: Tensor, length: int, value: int) -> Tensor:
    """Pad the second dimension."""
    return F.pad(tensor, [0, 0] * (tensor.ndim - 2) + [0, length - tensor.shape[1]], value=value)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate along the first dimension; pad the others with zeros."""
    shape = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    missing = [[most - size for most, size in zip(shape, part.shape[1:], strict=True)] for part in parts]
    # `F.pad` takes the last dimension first, and for each how much comes before and after.
    sides = [[side for size in reversed(sizes) for side in (0, size)] for sizes in missing]
    return cat([F.pad(part, side) if any(side) else part for part, side in zip(parts, sides, strict=True)])
