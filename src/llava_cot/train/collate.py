"""Rows as one batch.

Owns padding: what there is once a token is padded on the right, image tensors are put one after the other.
A batch is of rows with pictures or of rows without (`order.py`): Mllama's layers that look at images add
something to a text that has none, if its neighbour has one (transformers 5.23).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, cat

from llava_cot.models.local.encoding import PER_TOKEN
from llava_cot.train.encode import IGNORE, Row


class Collator:
    """Puts rows together; `pad` is the id on the right of shorter ones.

    Beside the model's inputs a batch has `labels` and `logits_to_keep`, how many positions matter at its end.
    """

    def __init__(self, pad: int) -> None:
        self._pad = pad

    def __call__(self, rows: Sequence[Row] | Sequence[list[Row]]) -> dict[str, Any]:
        """Rows, or lists of them, which come from a set that is in batches already."""
        flat = [row for one in rows for row in (one if isinstance(one, list) else [one])]
        longest = max(row.length for row in flat)
        batch: dict[str, Any] = {"labels": cat([_longer(row.labels, longest, IGNORE) for row in flat])}
        for name in flat[0].inputs:
            parts = [row.inputs[name] for row in flat]
            if name in PER_TOKEN:
                parts = [_longer(part, longest, self._pad if name == "input_ids" else 0) for part in parts]
            batch[name] = _joined(parts)
        if "aspect_ratio_mask" in batch:
            # As Mllama's processor has it for an image that is not there: softmax needs something to see.
            batch["aspect_ratio_mask"][:, :, 0] = 1
        learned = (batch["labels"] != IGNORE).any(0).nonzero()
        batch["logits_to_keep"] = longest - int(learned[0]) + 1 if len(learned) else 1
        return batch


def _longer(tensor: Tensor, length: int, fill: int) -> Tensor:
    missing = length - tensor.shape[1]
    if not missing:
        return tensor
    return cat([tensor, tensor.new_full((tensor.shape[0], missing, *tensor.shape[2:]), fill)], 1)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """One after the other along the first dimension, the others padded with zeros."""
    shape = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    if all(list(part.shape[1:]) == shape for part in parts):
        return cat(list(parts))
    made = parts[0].new_zeros(sum(len(part) for part in parts), *shape)
    row = 0
    for part in parts:
        place: list[Any] = [slice(row, row + len(part)), *(slice(0, size) for size in part.shape[1:])]
        made[tuple(place)] = part
        row += len(part)
    return made
