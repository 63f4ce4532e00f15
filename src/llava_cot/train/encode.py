"""Records as token ids and labels: what is learned, after exactly the prompt that `ask` sends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from llava_cot.core.images import LoadedImage, load_image, upright_size
from llava_cot.core.question import PLACE
from llava_cot.core.stages import LLAVA_COT, parse
from llava_cot.core.tags import find_tags
from llava_cot.data.record import Record, Turn, pictures_until, with_turns
from llava_cot.errors import DataError, ImageError, ModelError
from llava_cot.models.base import Message, Prompt
from llava_cot.models.local.checkpoint import Checkpoint, end_tokens
from llava_cot.models.local.encoding import Encoder, extended
from llava_cot.models.local.reward_head import token_bounds
from llava_cot.train.recipe import TrainTarget

IGNORE = -100  # transformers' and torch's value for "no label"
_BLANK = LoadedImage("blank", "blank", Image.new("RGB", (1, 1)))
_ToIds = Callable[[tuple[Message, ...]], tuple[int, ...]]


def target_text(turn: Turn, target: TrainTarget) -> str | None:
    """The text to learn as the answer to a turn's question; None if the record has none.

    `staged` is the response, `untagged` the same text without its tags, and `direct` the reference answer.
    Where a turn has no response, the first two take the reference answer; where it has no reference answer,
    `direct` takes the conclusion of the response.
    """
    if target == "direct":
        text = turn.answer or (parse(turn.response).answer if turn.response else None)
    else:
        text = turn.response or turn.answer
        if text and target == "untagged":
            tags = find_tags(text, LLAVA_COT.pairs)
            starts, ends = [0, *(tag.end for tag in tags)], [*(tag.start for tag in tags), None]
            parts = (text[start:end].strip() for start, end in zip(starts, ends, strict=True))
            text = "\n\n".join(part for part in parts if part)
    return text if text and text.strip() else None


def conversation(record: Record, target: TrainTarget, images: Sequence[LoadedImage]) -> tuple[Message, ...]:
    """The record's turns as messages, with the images at their places; empty if there is nothing to learn.

    Turns without a text to learn are left out; their images go with the next turn. `images` may be fewer than
    the record's pictures: those that are seen.
    """
    answers = {
        n: text for n, turn in enumerate(record.turns) if (text := target_text(turn, target)) is not None
    }
    learned = with_turns(record, answers)
    messages: list[Message] = []
    shown = 0
    for number, (turn, answer) in enumerate(zip(learned.turns, answers.values(), strict=True)):
        until = pictures_until(learned, number)
        messages += [Message("user", turn.text, tuple(images[shown:until])), Message("assistant", answer)]
        shown = until
    return tuple(messages)


@dataclass(frozen=True)
class TrainingRow:
    """One conversation."""

    inputs: dict[str, Tensor]  # the model's, each of one row
    labels: Tensor  # [1, length], `IGNORE` where nothing is learned
    head: int  # the number of tokens up to the last image, below which a row cannot be cut
    number: int | None = None  # by which its label is found, where it has one
    steps: Tensor | None = None  # [steps, 2]: the positions of the first and the last token of each
    values: Tensor | None = None  # [steps]

    @property
    def length(self) -> int:
        return self.labels.shape[1]


@dataclass(frozen=True)
class RowSize:
    """The size of a row in tokens: its length, its head's, and how many precede the first learned one."""

    length: int
    head: int
    first: int


class RowEncoder:
    """Encodes records for one checkpoint. Its methods raise DataError, which names the record."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        target: TrainTarget,
        double_bos: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        model, processor = checkpoint.model, checkpoint.processor
        self._encoder = Encoder(processor, model.config, double_bos, template_kwargs)
        self._target: TrainTarget = target
        self._ends = end_tokens(model.generation_config, model.config, processor.tokenizer)
        self._end: int = processor.tokenizer.eos_token_id
        self._image_sizes: dict[tuple[tuple[int, int], ...], tuple[int, int]] = {}

    def row(self, record: Record, max_tokens: int | None = None) -> TrainingRow:
        """The record with its images, cut after `max_tokens` tokens."""
        messages = conversation(record, self._target, load_pictures(record))
        with _as_data_error(record):
            ids, labels = self._label(
                messages, lambda m: self._encoder.encode(Prompt(m)).ids, self._encoder.conversation_ids
            )
            head, tensors = self._head(_until_last_image(messages))
        assert max_tokens is None or max_tokens >= head, "a row is never cut inside its images"
        ids, labels = ids[:max_tokens], labels[:max_tokens]
        return TrainingRow(extended(tensors, ids, head), torch.tensor([labels]), head)

    def part(self, row: TrainingRow, prefix: str, unfinished: bool) -> TrainingRow:
        """A row whose answer is learned without the prefix that begins it, or without its end, or both."""
        labels = row.labels.clone()
        given = self._encoder.prefix_ids(Prompt((), prefix=prefix)) if prefix else ()
        for at, token in zip((labels[0] != IGNORE).nonzero()[:, 0].tolist(), given, strict=False):
            if labels[0, at] != token:
                break
            labels[0, at] = IGNORE
        if unfinished:
            labels[0, -1] = IGNORE
        return replace(row, labels=labels)

    def with_steps(self, row: TrainingRow, text: str, steps: Sequence[tuple[int, int, float]]) -> TrainingRow:
        """A row with the steps of its answer `text`: start and end in characters, and the value."""
        learned = (row.labels[0] != IGNORE).nonzero()[:, 0]
        found = torch.tensor(token_bounds(self._encoder, text, [(start, end) for start, end, _ in steps]))
        positions = (found + learned[0]).clamp(max=int(learned[-1]))
        return replace(row, steps=positions, values=torch.tensor([value for *_, value in steps]))

    def prompt(self, record: Record) -> TrainingRow:
        """The record up to its last answer, with nothing to learn."""
        messages = conversation(record, self._target, load_pictures(record))[:-1]
        ids = list(self._encoder.encode(Prompt(messages)).ids)
        head, tensors = self._head(messages)
        return TrainingRow(extended(tensors, ids, head), torch.full((1, len(ids)), IGNORE), head)

    def size(self, record: Record, sizes: tuple[tuple[int, int], ...] | None = None) -> RowSize | None:
        """The size of the record's row, found without reading pixels; None if it has nothing to learn.

        `sizes` are width and height of each picture, where they are known.
        """
        sizes = _picture_sizes(record) if sizes is None else sizes
        messages = conversation(record, self._target, [_BLANK] * len(sizes))
        if not messages:
            return None
        with _as_data_error(record):
            extra, head = self._image_tokens(sizes, _until_last_image(messages))
            before, _ = self._image_tokens(sizes[: len(messages[0].images)], messages[:1])
            ids, labels = self._label(
                messages,
                self._encoder.ids_with_placeholders,
                lambda m: self._encoder.ids_with_placeholders(m, generation_prompt=False),
            )
        first = next(i for i, label in enumerate(labels) if label != IGNORE)
        return RowSize(len(ids) + extra, head, first + before)

    def _head(self, messages: tuple[Message, ...]) -> tuple[int, dict[str, Tensor]]:
        """The length of a prompt's head, which ends with the last image, and the model's inputs for it."""
        encoded = self._encoder.encode(Prompt(messages))
        return (0, {}) if encoded.head is None else (
            len(encoded.head.ids), self._encoder.head_tensors(encoded)
        )  # fmt: skip

    def _image_tokens(
        self, sizes: tuple[tuple[int, int], ...], messages: tuple[Message, ...]
    ) -> tuple[int, int]:
        """How many tokens images of these sizes take beyond one each, and the length of the head.

        `messages` end with the last image. They are the same for all records whose images come first.
        """
        if not sizes:
            return 0, 0
        first = len(messages) == 1 and PLACE not in messages[0].text
        if not first or sizes not in self._image_sizes:
            blanks = iter([load_image(Image.new("RGB", size)) for size in sizes])
            shown = tuple(replace(m, images=tuple(next(blanks) for _ in m.images)) for m in messages)
            encoded = self._encoder.encode(Prompt(shown))
            assert encoded.head is not None
            found = len(encoded.ids) - len(self._encoder.ids_with_placeholders(shown)), len(encoded.head.ids)
            if not first:
                return found
            self._image_sizes[sizes] = found
        return self._image_sizes[sizes]

    def _label(
        self, messages: tuple[Message, ...], prompt_ids: _ToIds, conversation_ids: _ToIds
    ) -> tuple[list[int], list[int]]:
        """The ids of a conversation and their labels.

        The ids before an answer are those of the prompt that the model gets for it. The answer's own are
        those that the tokenizer gives it in the whole conversation, if that begins with the prompt's ids;
        otherwise those of the answer alone.
        """
        ids: list[int] = []
        labels: list[int] = []
        written = ""
        for number, message in enumerate(messages):
            if message.role != "assistant":
                continue
            before = self._encoder.render(messages[:number], generation_prompt=True)
            after = self._encoder.render(messages[: number + 1], generation_prompt=False)
            prompt = prompt_ids(messages[:number])
            completion = _completion(before, after, message.text)
            if completion is None or not before.startswith(written) or list(prompt[: len(ids)]) != ids:
                raise ModelError(
                    "the chat template changes earlier turns once an answer follows, so the learned tokens "
                    "cannot be found; use conversations of one turn, or another template"
                )
            whole = conversation_ids(messages[: number + 1])
            in_place = whole[: len(prompt)] == prompt
            answer = whole[len(prompt) :] if in_place else self._encoder.text_ids(completion)
            labels += [IGNORE] * (len(prompt) - len(ids)) + self._answer_labels(answer)
            ids, written = [*prompt, *answer], before + completion
        return self._closed(ids, labels)

    def _answer_labels(self, answer: Sequence[int]) -> list[int]:
        """An answer's ids up to its last end token; what a template writes after it is not learned."""
        last = max((i for i, token in enumerate(answer) if token in self._ends), default=len(answer) - 1)
        return [*answer[: last + 1], *[IGNORE] * (len(answer) - last - 1)]

    def _closed(self, ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
        """End with the last learned token; if that is no end token, add the tokenizer's own."""
        while labels and labels[-1] == IGNORE:
            ids, labels = ids[:-1], labels[:-1]
        if labels and labels[-1] not in self._ends:
            ids, labels = [*ids, self._end], [*labels, self._end]
        return ids, labels


def _completion(before: str, after: str, answer: str) -> str | None:
    """What a model is to write after its prompt: the answer, and what the template closes it with.

    Args:
        before: The prompt.
        after: The conversation with the answer. A template may write it without what the prompt ends with,
            such as a tag that opens a model's thinking.
        answer: The answer.

    Returns:
        The text, or None if the conversation does not have the answer as it is.
    """
    if after.startswith(before):
        return after[len(before) :]
    _, found, closing = after.rpartition(answer.strip())
    return found + closing if found else None


def _until_last_image(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """A conversation up to the message with its last image; only the first message if it has none."""
    last = max((number for number, message in enumerate(messages) if message.images), default=0)
    return messages[: last + 1]


def load_pictures(record: Record) -> list[LoadedImage]:
    """The record's images. Raises DataError, which names the record and the image."""
    with _as_data_error(record):
        loaded = {
            picture: load_image(picture.file or picture.read(), name=picture.name)
            for picture in dict.fromkeys(record.pictures)
        }
        return [loaded[picture] for picture in record.pictures]


def _picture_sizes(record: Record) -> tuple[tuple[int, int], ...]:
    """Width and height of each of the record's images, in pixels."""
    with _as_data_error(record):
        return tuple(upright_size(p.file or p.read(), name=p.name) for p in record.pictures)


@contextmanager
def _as_data_error(record: Record) -> Iterator[None]:
    try:
        yield
    except (ImageError, OSError) as error:
        raise DataError(f"in the record {record.id!r}: {error}") from None
    except ModelError as error:
        raise DataError(f"the record {record.id!r} cannot be trained on: {error}") from None
