"""Conversations as token ids, with the assistant's words marked as what is learned.

Owns which tokens are learned. A prompt's ids come from `models/encoding.py`, so that a model is trained on
exactly what it is asked with; nothing here knows a chat template or an architecture by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from llava_cot.core.images import LoadedImage, load_image, upright_size
from llava_cot.data.record import Record
from llava_cot.errors import DataError, ImageError, ModelError
from llava_cot.models.base import Message, Prompt
from llava_cot.models.local.checkpoint import Checkpoint, end_tokens
from llava_cot.models.local.encoding import PER_TOKEN, Encoder
from llava_cot.train.targets import Target, conversation

IGNORE = -100  # what transformers and torch take for "no label"


@dataclass(frozen=True)
class Row:
    """One conversation: the model's inputs, each of one row, and labels [1, length].

    `head` is how many tokens there are up to the last image: no shorter row can hold the pictures.
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    head: int

    @property
    def length(self) -> int:
        return self.labels.shape[1]


@dataclass(frozen=True)
class Size:
    """What a row will take: its length and its head's, in tokens, and where the first learned token is."""

    length: int
    head: int
    first: int


class RowEncoder:
    """Encodes records for one checkpoint."""

    def __init__(self, checkpoint: Checkpoint, target: Target, double_bos: bool = False) -> None:
        model, processor = checkpoint.model, checkpoint.processor
        self._encoder = Encoder(processor, model.config, double_bos)
        self._target: Target = target
        self._ends = end_tokens(model.generation_config, model.config, processor.tokenizer)
        self._end: int = processor.tokenizer.eos_token_id
        self._head_extra: dict[tuple[tuple[int, int], ...], tuple[int, int]] = {}

    def row(self, record: Record, most: int | None = None) -> Row:
        """The record with its pictures, cut after `most` tokens. Raises DataError, which names the record."""
        messages = conversation(record, self._target, load_pictures(record))
        try:
            return self._row(messages, most)
        except ModelError as error:
            raise DataError(f"the record {record.id!r} cannot be trained on: {error}") from None

    def prompt(self, record: Record) -> Row:
        """The record up to its last answer: what a model is asked, with nothing to learn."""
        messages = conversation(record, self._target, load_pictures(record))[:-1]
        encoded = self._encoder.encode(Prompt(messages))
        head = 0 if encoded.head is None else len(encoded.head.ids)
        tensors = {} if encoded.head is None else self._encoder.head_tensors(encoded)
        ids = list(encoded.ids)
        return Row(_stretched(tensors, ids, head), torch.full((1, len(ids)), IGNORE), head)

    def size(self, record: Record) -> Size | None:
        """What the record will take, without reading pixels; None if it has nothing to learn."""
        sizes = picture_sizes(record)
        messages = conversation(record, self._target, [_BLANK] * len(sizes))
        if not messages:
            return None
        try:
            extra, head = self._extra(sizes, messages[0])
            ids, labels = self._learned(messages, lambda m: self._encoder.places(Prompt(m))[0],
                                        self._encoder.conversation_places)  # fmt: skip
        except ModelError as error:
            raise DataError(f"the record {record.id!r} cannot be trained on: {error}") from None
        first = next(i for i, label in enumerate(labels) if label != IGNORE)
        return Size(len(ids) + extra, head, first + extra)

    def _extra(self, sizes: tuple[tuple[int, int], ...], asked: Message) -> tuple[int, int]:
        """How many tokens pictures of such sizes take beside one each, and the length of a head with them."""
        if not sizes:
            return 0, 0
        if sizes not in self._head_extra:
            blanks = tuple(load_image(Image.new("RGB", size)) for size in sizes)
            prompt = Prompt((replace(asked, images=blanks),))
            encoded = self._encoder.encode(prompt)
            assert encoded.head is not None
            extra = len(encoded.ids) - len(self._encoder.places(prompt)[0])
            self._head_extra[sizes] = extra, len(encoded.head.ids)
        return self._head_extra[sizes]

    def _row(self, messages: tuple[Message, ...], most: int | None) -> Row:
        ids, labels = self._learned(
            messages, lambda m: self._encoder.encode(Prompt(m)).ids, self._encoder.conversation
        )
        encoded = self._encoder.encode(Prompt(messages[:1]))
        head = 0 if encoded.head is None else len(encoded.head.ids)
        tensors = {} if encoded.head is None else self._encoder.head_tensors(encoded)
        if most is not None:
            assert most >= head, "a row is never cut inside its pictures"
            ids, labels = ids[:most], labels[:most]
        return Row(_stretched(tensors, ids, head), torch.tensor([labels]), head)

    def _learned(
        self,
        messages: tuple[Message, ...],
        asked_ids: Callable[[tuple[Message, ...]], tuple[int, ...]],
        whole_ids: Callable[[tuple[Message, ...]], tuple[int, ...]],
    ) -> tuple[list[int], list[int]]:
        """All ids, and those of them that are learned, with IGNORE for the others.

        An answer's ids follow those that the model is asked with, and are what the tokenizer makes of the
        text in its place, where the two agree.
        """
        ids: list[int] = []
        labels: list[int] = []
        written = ""
        for number, message in enumerate(messages):
            if message.role != "assistant":
                continue
            before = self._encoder.written(messages[:number], asks=True)
            after = self._encoder.written(messages[: number + 1], asks=False)
            asked = asked_ids(messages[:number])
            if (
                not (before.startswith(written) and after.startswith(before))
                or list(asked[: len(ids)]) != ids
            ):
                raise ModelError(
                    "the chat template writes what was said before an answer in another way once given, "
                    "so it cannot be told what is learned; use conversations of one turn, or another one"
                )
            whole = whole_ids(messages[: number + 1])
            fits = whole[: len(asked)] == asked
            answer = whole[len(asked) :] if fits else self._encoder.plain(after[len(before) :])
            labels += [IGNORE] * (len(asked) - len(ids)) + self._until_end(answer)
            ids, written = [*asked, *answer], after
        return self._closed(ids, labels)

    def _until_end(self, answer: Sequence[int]) -> list[int]:
        """The labels of an answer: up to its last end token, not what a template writes after it."""
        last = max((i for i, token in enumerate(answer) if token in self._ends), default=len(answer) - 1)
        return [*answer[: last + 1], *[IGNORE] * (len(answer) - last - 1)]

    def _closed(self, ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
        """Without what follows the last learned token, which is an end token: else one is added."""
        while labels and labels[-1] == IGNORE:
            ids, labels = ids[:-1], labels[:-1]
        if labels and labels[-1] not in self._ends:
            ids, labels = [*ids, self._end], [*labels, self._end]
        return ids, labels


_BLANK = LoadedImage("blank", "blank", Image.new("RGB", (1, 1)))


def _stretched(head: dict[str, Tensor], ids: list[int], size: int) -> dict[str, Tensor]:
    """The inputs of a head, and after it plain text, which sees all images before it."""
    rest = len(ids) - size
    made: dict[str, Any] = dict(head)
    for name in PER_TOKEN:
        if name in head:
            tensor = head[name]
            last = tensor[:, -1:] if name == "cross_attention_mask" else torch.zeros_like(tensor[:, -1:])
            made[name] = torch.cat([tensor, last.expand(-1, rest, *tensor.shape[2:])], 1)
    made["input_ids"] = torch.tensor([ids])
    made["attention_mask"] = torch.ones(1, len(ids), dtype=torch.long)
    return made


def load_pictures(record: Record) -> list[LoadedImage]:
    """The record's pictures. Raises DataError, which names the record and the picture."""
    with _naming(record):
        return [load_image(picture.file or picture.read(), name=picture.name) for picture in record.pictures]


def picture_sizes(record: Record) -> tuple[tuple[int, int], ...]:
    """Width and height of the record's pictures. Raises DataError, which names the record and the picture."""
    with _naming(record):
        return tuple(upright_size(p.file or p.read(), name=p.name) for p in record.pictures)


@contextmanager
def _naming(record: Record) -> Iterator[None]:
    try:
        yield
    except (ImageError, OSError) as error:
        raise DataError(f"in the record {record.id!r}: {error}") from None
