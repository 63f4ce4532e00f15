"""Token ids and labels of a batch of examples."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from aids import MENTION, Last, Mention, lasts
from build import IMAGE
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from examples import Example
from llava_cot.judges.prompts import CHOICE
from llava_cot.scenes.questions import SceneQuestion
from llava_cot.scenes.teacher import ORDINALS
from llava_cot.stages import LLAVA_COT

IGNORE = -100
HEAVY = 2.0  # the weight of the number that decides a duel, and of what follows a caption
LOOKED = 4.0  # of what a duel's reply says of the image: the choice follows from it
HEAVIER = 8.0  # of the last word of a reasoning (an option's letter, yes or no), and of a number alone
_LOOKED = re.compile(r" and( .*?) in the image")


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
        self.last_words = set(tokenizer(" A B C D yes no").input_ids)
        self.before_number = len(tokenizer(CHOICE).input_ids)
        self.caption_end = ids(LLAVA_COT.stage("caption").close)

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
        if example.ending:
            learned = [token if token in self.last_words else IGNORE for token in learned]
        return prompt + reply, [IGNORE] * len(prompt) + learned

    def starts(self, example: Example) -> tuple[dict[int, int], dict[int, int]]:
        """The tokens of the row that begin at each character of the prompt, and of the reply."""
        shift, tables = len(self.start) + example.picture, []
        for text in (example.prompt, example.reply):
            offsets = self.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
            tables.append({first: shift + token for token, (first, _) in enumerate(offsets)})
            shift += len(offsets) + 1  # the assistant's mark
        return tables[0], tables[1]

    def _looked(self, example: Example) -> list[int]:
        """The tokens of a duel's reply that say what the image shows."""
        match = None if example.direct else _LOOKED.search(example.reply)
        if match is None:
            return []
        first, last = match.span(1)
        return [token for place, token in self.starts(example)[1].items() if first <= place < last]

    def mentions(self, row: int, example: Example) -> list[Mention]:
        """Where the prompt and the reply describe an object."""
        found: list[Mention] = []
        for text, starts in zip((example.prompt, example.reply), self.starts(example), strict=True):
            for match in MENTION.finditer(text):
                place, *words = match.groups()
                if match.end() in starts:
                    found.append(Mention(row, starts[match.end()], ORDINALS.index(place), tuple(words)))
        return found

    def lasts(self, row: int, example: Example, question: SceneQuestion) -> list[Last]:
        """Where the reply comes to its last words."""
        return lasts(row, question, example.prompt, example.reply, *self.starts(example))

    def batch(self, examples: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Ids, labels, weights of the labels, and which of them decide a duel. Right-padded [B, T].

        Labels are shifted: labels[:, t] is what follows ids[:, t].
        """
        pairs = [self.one(example) for example in examples]
        longest = max(len(ids) for ids, _ in pairs)
        ids = torch.full((len(pairs), longest), self.pad)
        labels = torch.full((len(pairs), longest), IGNORE)
        weights = torch.ones(labels.shape)
        deciding = torch.zeros(labels.shape, dtype=torch.bool)
        for row, (tokens, learned) in enumerate(pairs):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            labels[row, : len(tokens) - 1] = torch.tensor(learned[1:])
            if CHOICE in examples[row].reply:
                last = max(place for place, token in enumerate(learned) if token in self.numbers)
                deciding[row, last - 1] = True
                weights[row, last - 1] = HEAVIER if examples[row].direct else HEAVY
                for place in self._looked(examples[row]):
                    weights[row, place - 1] = LOOKED
            elif self.caption_end in learned:
                after = learned.index(self.caption_end)
                weights[row, after:] = HEAVY
                for place in range(after, len(learned)):
                    if learned[place] in self.last_words:
                        weights[row, place - 1] = HEAVIER
        return ids, labels, weights, deciding
