"""Rows as one batch.

Owns padding. What there is once a token is padded on the right; what belongs to images is put one after the
other, or, where the processor gives each row a place of its own (Mllama, Idefics3), padded to the most images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from llava_cot.models.encoding import PER_TOKEN
from llava_cot.train.encode import IGNORE, Row


class Collator:
    """Puts rows together. `by_row` says that image tensors have a place for each row, images or not."""

    def __init__(self, pad: int, by_row: bool) -> None:
        self._pad = pad
        self._by_row = by_row

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        longest = max(row.length for row in rows)
        names = {name for row in rows for name in row.inputs}
        batch = {"labels": _joined([_longer(row.labels, longest, IGNORE) for row in rows])}
        for name in sorted(names):
            if name in PER_TOKEN:
                fill = self._pad if name == "input_ids" else 0
                parts = [_longer(self._tokens(name, row, rows), longest, fill) for row in rows]
            else:
                parts = [row.inputs[name] for row in rows if name in row.inputs]
                if self._by_row and len(parts) < len(rows):
                    empty = torch.zeros_like(parts[0][:, :0])
                    parts = [row.inputs.get(name, empty) for row in rows]
            batch[name] = _joined(parts)
        if "aspect_ratio_mask" in batch:
            # Mllama's processor lets an image that is not there have one tile: softmax needs something to see.
            batch["aspect_ratio_mask"][:, :, 0] = 1
        return batch

    @staticmethod
    def _tokens(name: str, row: Row, rows: Sequence[Row]) -> Tensor:
        """What a row has once a token; zeros, if only rows with images have it."""
        if name in row.inputs:
            return row.inputs[name]
        like = next(other.inputs[name] for other in rows if name in other.inputs)
        return like.new_zeros(1, row.length, *like.shape[2:])


def _longer(tensor: Tensor, length: int, fill: int) -> Tensor:
    missing = length - tensor.shape[1]
    if not missing:
        return tensor
    return torch.cat([tensor, tensor.new_full((tensor.shape[0], missing, *tensor.shape[2:]), fill)], 1)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """One after the other along the first dimension, the others padded with zeros."""
    shape = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    if all(list(part.shape[1:]) == shape for part in parts):
        return torch.cat(list(parts))
    made = parts[0].new_zeros(sum(len(part) for part in parts), *shape)
    row = 0
    for part in parts:
        place: list[Any] = [slice(row, row + len(part)), *(slice(0, size) for size in part.shape[1:])]
        made[tuple(place)] = part
        row += len(part)
    return made
