"""Examples as token ids, with what is learned of them and how much each token weighs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from llava_cot.scenes.questions import SceneQuestion
from llava_cot.scenes.teacher import MENTION, ORDINALS
from llava_cot.search.judge_prompts import default_prompts
from research.mini.examples import Example
from research.mini.heads import LastWord, Mention, lasts
from research.mini.model import IMAGE

IGNORE = -100
HEAVY = 2.0  # the weight of the number that decides a duel, and of what follows a caption
LOOKED = 4.0  # of what a duel's reply says of the image: the choice follows from it
HEAVIER = 8.0  # of the last word of a reasoning (an option's letter, yes or no), and of a number alone
_LOOKED = re.compile(r" and( .*?) in the image")


@dataclass(frozen=True)
class Row:
    """One example as tokens: `labels` and `weights` belong to the token at the same place.

    `deciding` is the token that decides a duel. The tables give the token at a character of the prompt and of
    the reply.
    """

    example: Example
    ids: list[int]
    labels: list[int]
    weights: list[float]
    deciding: int | None
    prompt_at: dict[int, int]
    reply_at: dict[int, int]

    def mentions(self, number: int) -> list[Mention]:
        """Where the prompt and the reply describe an object; `number` is the row's in its batch."""
        found: list[Mention] = []
        for text, starts in ((self.example.prompt, self.prompt_at), (self.example.reply, self.reply_at)):
            for match in MENTION.finditer(text):
                place, *words = match.groups()
                if match.end() in starts:
                    found.append(Mention(number, starts[match.end()], ORDINALS.index(place), tuple(words)))
        return found

    def lasts(self, number: int, question: SceneQuestion) -> list[LastWord]:
        """Where the reply comes to its last words."""
        return lasts(number, question, self.example.prompt, self.example.reply, self.prompt_at, self.reply_at)


class Rows:
    """Makes rows: the reply's tokens are learned, the prompt's are not."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        self.tokenizer = tokenizer
        ids = tokenizer.get_vocab()
        self.start = [ids["<|begin|>"], ids["<|user|>"]]
        self.image, self.assistant = ids[IMAGE], ids["<|assistant|>"]
        self.end, self.pad = ids["<|end|>"], ids["<|pad|>"]
        self.numbers = set(tokenizer(" 1 2").input_ids)
        self.last_words = set(tokenizer(" A B C D yes no").input_ids)
        self.before_number = len(tokenizer(default_prompts().choice).input_ids)

    def _encode(self, text: str, shift: int) -> tuple[list[int], dict[int, int]]:
        encoded = self.tokenizer(text, return_offsets_mapping=True)
        starts = {first: shift + place for place, (first, _) in enumerate(encoded["offset_mapping"])}
        return encoded["input_ids"], starts

    def row(self, example: Example) -> Row:
        opening = [*self.start, *([self.image] if example.picture else [])]
        prompt_ids, prompt_at = self._encode(example.prompt, len(opening))
        prompt = [*opening, *prompt_ids, self.assistant]
        reply, reply_at = self._encode(example.reply, len(prompt))
        reply = [*reply, self.end]
        learned = list(reply)
        if example.direct:
            learned = [IGNORE] * self.before_number + reply[self.before_number : self.before_number + 1]
            reply = reply[: self.before_number + 1]
        if example.ending:
            learned = [token if token in self.last_words else IGNORE for token in learned]
        labels = [IGNORE] * len(prompt) + learned
        weights, deciding = [1.0] * len(labels), None
        if default_prompts().choice in example.reply:
            deciding = max(place for place, token in enumerate(labels) if token in self.numbers)
            weights[deciding] = HEAVIER if example.direct else HEAVY
            match = None if example.direct else _LOOKED.search(example.reply)
            if match:
                first, last = match.span(1)
                for character, place in reply_at.items():
                    if first <= character < last:
                        weights[place] = LOOKED
        elif example.after is not None:
            begin = min((p for c, p in reply_at.items() if c >= example.after), default=len(labels) - 1)
            for place in range(begin, len(labels)):
                weights[place] = HEAVIER if labels[place] in self.last_words else HEAVY
        return Row(example, prompt + reply, labels, weights, deciding, prompt_at, reply_at)

    def tensors(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Ids, labels, weights of the labels, and which of them decide a duel. Right-padded [B, T].

        Labels are shifted: labels[:, t] is what follows ids[:, t].
        """
        longest = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), longest), self.pad)
        labels = torch.full((len(rows), longest), IGNORE)
        weights = torch.ones(labels.shape)
        deciding = torch.zeros(labels.shape, dtype=torch.bool)
        for number, row in enumerate(rows):
            size = len(row.ids)
            ids[number, :size] = torch.tensor(row.ids)
            labels[number, : size - 1] = torch.tensor(row.labels[1:])
            weights[number, : size - 1] = torch.tensor(row.weights[1:])
            if row.deciding is not None:
                deciding[number, row.deciding - 1] = True
        return ids, labels, weights, deciding
