"""Examples as token ids, with what is learned of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from llava_cot.scenes.filters import Filter
from research.mini.examples import Example
from research.mini.model import IMAGE

IGNORE = -100


@dataclass(frozen=True)
class Row:
    """One example as tokens: `labels` belong to the tokens at the same places.

    `described` are the descriptions of objects in the prompt, and `options` whether each option is right,
    each with the token at which it ends.
    """

    example: Example
    ids: list[int]
    labels: list[int]
    described: tuple[tuple[Filter, int], ...] = ()
    options: tuple[tuple[bool, int], ...] = ()


class Rows:
    """Makes rows: the reply's tokens are learned, the prompt's are not."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        self.tokenizer = tokenizer
        ids = tokenizer.get_vocab()
        self.start = [ids["<|begin|>"], ids["<|user|>"]]
        self.image, self.assistant = ids[IMAGE], ids["<|assistant|>"]
        self.end, self.pad = ids["<|end|>"], ids["<|pad|>"]

    def row(self, example: Example) -> Row:
        opening = [*self.start, *([self.image] if example.picture else [])]
        encoded = self.tokenizer(example.prompt, return_offsets_mapping=True)
        prompt = [*opening, *encoded["input_ids"], self.assistant]
        reply = [*self.tokenizer(example.reply).input_ids, self.end]
        starts = [first for first, _ in encoded["offset_mapping"]]

        def token(end: int) -> int:
            return len(opening) + bisect_left(starts, end) - 1

        return Row(
            example,
            prompt + reply,
            [IGNORE] * len(prompt) + reply,
            tuple((what, token(end)) for what, end in example.filters),
            tuple((right, token(end)) for right, end in example.options),
        )

    def tensors(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Ids and labels, right-padded [B, T]. Labels are shifted: labels[:, t] is what follows ids[:, t]."""
        longest = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), longest), self.pad)
        labels = torch.full((len(rows), longest), IGNORE)
        for number, row in enumerate(rows):
            size = len(row.ids)
            ids[number, :size] = torch.tensor(row.ids)
            labels[number, : size - 1] = torch.tensor(row.labels[1:])
        return ids, labels
