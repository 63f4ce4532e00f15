"""Token ids and labels of a batch of examples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from build import IMAGE
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from examples import Example
from llava_cot.judges.prompts import CHOICE

IGNORE = -100


class Rows:
    """Builds batches: the reply's tokens are learned, the prompt's are not."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        self.tokenizer = tokenizer
        ids = tokenizer.convert_tokens_to_ids
        self.start = [ids("<|begin|>"), ids("<|user|>")]
        self.image, self.assistant, self.end, self.pad = (
            ids(IMAGE),
            ids("<|assistant|>"),
            ids("<|end|>"),
            ids("<|pad|>"),
        )
        self.numbers = set(tokenizer(" 1 2").input_ids)
        self.before_number = len(tokenizer(CHOICE).input_ids)

    def one(self, example: Example) -> tuple[list[int], list[int]]:
        encode = self.tokenizer
        prompt = [
            *self.start,
            *([self.image] if example.picture else []),
            *encode(example.prompt).input_ids,
            self.assistant,
        ]
        reply = [*encode(example.reply).input_ids, self.end]
        learned = list(reply)
        if example.direct:
            learned = [IGNORE] * self.before_number + reply[self.before_number : self.before_number + 1]
            reply = reply[: self.before_number + 1]
        return prompt + reply, [IGNORE] * len(prompt) + learned

    def batch(self, examples: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, labels, and which of these decide a duel: the number that is chosen. Right-padded [B, T].

        Labels are shifted: labels[:, t] is what follows ids[:, t].
        """
        pairs = [self.one(example) for example in examples]
        longest = max(len(ids) for ids, _ in pairs)
        ids = torch.full((len(pairs), longest), self.pad)
        labels = torch.full((len(pairs), longest), IGNORE)
        deciding = torch.zeros(labels.shape, dtype=torch.bool)
        for row, (tokens, learned) in enumerate(pairs):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            labels[row, : len(tokens) - 1] = torch.tensor(learned[1:])
            if CHOICE in examples[row].reply:
                last = max(place for place, token in enumerate(learned) if token in self.numbers)
                deciding[row, last - 1] = True
        return ids, labels, deciding
