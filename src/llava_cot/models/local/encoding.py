"""Prompts as token ids and image tensors, by a checkpoint's chat template and processor.

A prompt is cut in two: the *head*, everything up to its last image, which runs with pixels, and plain tokens
after it. Where it can be cut depends on the checkpoint and on the prompt alone.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from cachetools import LRUCache
from PIL import Image
from torch import Tensor
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from llava_cot.core.question import PLACE, LoadedImage
from llava_cot.errors import ModelError
from llava_cot.models.base import Message, Prompt
from llava_cot.models.local.chat_template import check_template_kwargs, render_bounded
from llava_cot.models.local.checkpoint import PREFIX_LM, failing_with
from llava_cot.models.local.plain_text import MARK, PlainText

# What sorts tokens into those of pictures and others, and all that has an entry for each token.
_TYPES = ("token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids")
PER_TOKEN = ("input_ids", "attention_mask", "cross_attention_mask", *_TYPES)
# Cached tensors of heads that wait to be run; they are computed anew where they are dropped.
_TENSOR_BYTES = 512 * 2**20
# What the test of cutting asks about; no request of a user decides it.
_BLANK = LoadedImage("blank", "blank", Image.new("RGB", (64, 64)))


@dataclass(frozen=True)
class Head:
    """A prompt up to its last image, or all of it (`PREFIX_LM`).

    Equal to another if the ids are, and the images by their pixels.
    """

    ids: tuple[int, ...]
    images: tuple[str, ...]


@dataclass(frozen=True)
class Encoded:
    """A prompt as token ids."""

    ids: tuple[int, ...]  # with as many for an image as the model reads
    head: Head | None  # what the ids begin with; None without images
    prefix_length: int  # how many ids, at the end, are the assistant's text so far
    messages: tuple[Message, ...]


class Encoder:
    """Encodes prompts for one checkpoint. May be used from any thread.

    With `double_bos`, prompts begin with the token for the beginning of text twice. `template_kwargs` are
    further arguments of the chat template.
    """

    def __init__(
        self,
        processor: Any,
        config: Any,
        double_bos: bool,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self._processor = processor
        self._tokenizer = processor.tokenizer
        self._double_bos = double_bos
        self._prefix_lm = config.model_type in PREFIX_LM
        template = (
            getattr(processor, "chat_template", None),
            getattr(self._tokenizer, "chat_template", None),
        )
        self._template_kwargs = check_template_kwargs(template_kwargs or {}, str(template))
        self._image_mark = getattr(processor, "image_token", None) or ""
        sources = ((processor, "image_token_id"), (config, "image_token_id"), (config, "image_token_index"))
        ids = [getattr(source, name, None) for source, name in sources]
        ids += getattr(processor, "image_token_ids", None) or []
        self._image_ids = frozenset(token for token in ids if isinstance(token, int))
        names = (value for name, value in vars(processor).items() if name.endswith("token"))
        spellings = [name for name in (self._image_mark, *names) if isinstance(name, str) and name]
        self._closing = re.compile(f"(?:{'|'.join(map(re.escape, spellings))})*(?=.)", re.DOTALL)
        vocabulary = self._tokenizer.get_vocab()
        self._marks = frozenset(vocabulary[name] for name in spellings if name in vocabulary)
        self._plain = PlainText(self._tokenizer, spellings)
        self._lock = threading.RLock()
        self._opened: dict[str, bool] = {}  # by tag
        self._encoded: LRUCache[Any, tuple[tuple[int, ...], Head | None]] = LRUCache(256)
        self._heads: LRUCache[Any, Head] = LRUCache(256)
        self._tensors: LRUCache[Head, dict[str, Tensor]] = LRUCache(_TENSOR_BYTES, _bytes)
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is not None:
            backend.no_padding()
            backend.no_truncation()
        # The models check the length against the context; transformers' own limit would only warn.
        self._tokenizer.model_max_length = VERY_LARGE_INTEGER

    def encode(self, prompt: Prompt) -> Encoded:
        """Encode a prompt. Raises ModelError if the chat template or the processor cannot take it."""
        messages = prompt.messages
        key = tuple((m.role, m.text, tuple(image.sha256 for image in m.images)) for m in messages)
        with self._lock:
            encoded = self._encoded.get(key)
            if encoded is None:
                encoded = self._encoded[key] = self._encode(messages)
        rest = self.prefix_ids(prompt)
        ids, head = encoded
        return Encoded((*ids, *rest), head, len(rest), messages)

    def conversation_ids(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        """The ids of a whole conversation that ends with an answer. Raises ModelError."""
        with self._lock:
            return self._encode(messages, generation_prompt=False)[0]

    def ids_with_placeholders(
        self, messages: tuple[Message, ...], generation_prompt: bool = True
    ) -> tuple[int, ...]:
        """The ids with one per image, for engines that place images themselves. Raises ModelError."""
        with self._lock:
            text, begins, bos = self._begin(messages, generation_prompt)
            if any(message.images for message in messages):
                return (*bos, *self._plain.encode(text, not begins))
            return (*bos, *self._without_images(text, not begins))

    def conversation_tensors(self, messages: tuple[Message, ...]) -> dict[str, Tensor]:
        """The model's inputs for a whole conversation with its images, one row. Raises ModelError."""
        with self._lock:
            text, begins, _ = self._begin(messages, generation_prompt=False)
            images = [image for message in messages for image in message.images]
            return self._process(text, images, not begins)

    def text_ids(self, text: str) -> list[int]:
        """The ids of a part of a rendered text by itself. Raises ModelError."""
        with self._lock:
            return self._plain.encode(text)

    def _answer_ids(self, text: str) -> list[int]:
        """The ids of a part of an answer. Raises ModelError."""
        return self.text_ids(self._plain.mark(text, answer=True))

    def prefix_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids of the assistant's text so far."""
        ids = prompt.prefix_tokens
        if ids is None:
            ids = tuple(self._answer_ids(prompt.prefix)) if prompt.prefix else ()
        if prompt.thinking is None or self.opens(prompt.thinking[0]):
            return ids
        return (*self._answer_ids(prompt.thinking[0]), *ids)

    def opens(self, tag: str) -> bool:
        """Whether the chat template begins an answer with this tag."""
        with self._lock:
            if tag not in self._opened:
                text = self.render([Message("user", "What is it?")], generation_prompt=True)
                self._opened[tag] = text.rstrip().endswith(tag)
            return self._opened[tag]

    def option_ids(self, prefix: str, option: str) -> list[int]:
        """The ids of an option as in one text with the prefix, where the prefix keeps its own ids there."""
        before, both = self._answer_ids(prefix), self._answer_ids(prefix + option)
        cut = len(before)
        return both[cut:] if both[:cut] == before and len(both) > cut else self._answer_ids(option)

    def head_tensors(self, encoded: Encoded) -> dict[str, Tensor]:
        """The model's inputs for the head. This drops them: they are computed anew for the next call."""
        assert encoded.head is not None
        with self._lock:
            if encoded.head not in self._tensors:
                self._encode(encoded.messages, again=True)
            tensors: dict[str, Tensor] = self._tensors.pop(encoded.head)
            return tensors

    def _begin(self, messages: Sequence[Message], generation_prompt: bool) -> tuple[str, bool, list[int]]:
        """The template's text, whether a beginning-of-text token is in it, and ids to put before it."""
        text = self.render(messages, generation_prompt)
        begins = bool(self._tokenizer.bos_token) and text.startswith(self._tokenizer.bos_token)
        return text, begins, [self._tokenizer.bos_token_id] if begins and self._double_bos else []

    def _encode(
        self, messages: tuple[Message, ...], again: bool = False, generation_prompt: bool = True
    ) -> tuple[tuple[int, ...], Head | None]:
        text, begins, bos = self._begin(messages, generation_prompt)
        images = [image for message in messages for image in message.images]
        special = not begins
        if not images and self._prefix_lm:
            raise ModelError("this model answers about pictures alone; give one")
        if not images:
            return (*bos, *self._without_images(text, special)), None
        shas = tuple(image.sha256 for image in images)
        before, mark, after = self._partition(text)
        key = (before + mark, shas)
        head = None
        rest = (
            self._rest(before, mark, after, special) if mark and self._cuts and not self._prefix_lm else None
        )
        if rest is not None:
            head = None if again else self._heads.get(key)
            if head is None:
                with suppress(ModelError):  # a processor that refuses a part of the text gets all of it
                    head = self._store(self._process(before + mark, images, special), bos, shas)
                    self._heads[key] = head
        if head is None or rest is None:
            whole = self._process(text, images, special)
            ids = whole["input_ids"][0].tolist()
            tensors, rest = (whole, []) if self._prefix_lm else self._divide(whole, ids)
            head = self._store(tensors, bos, shas)
        return (*head.ids, *rest), head

    def _without_images(self, text: str, special: bool) -> list[int]:
        """The ids of a whole text. A processor may add to them: Molmo2's adds the beginning of text."""
        plain = self._plain.encode(text, special)
        return (self._processed(text, special) or plain) if self._adds else plain

    def _processed(self, text: str, special: bool) -> list[int]:
        """What the processor makes of a text without images; nothing if it needs some."""
        try:
            ids: list[int] = self._process(text, [], special)["input_ids"][0].tolist()
        except ModelError:
            return []
        return ids

    @cached_property
    def _adds(self) -> bool:
        """Whether the processor makes other ids of a text than the tokenizer does."""
        text, begins, _ = self._begin([Message("user", "What is it?")], generation_prompt=True)
        special = not begins
        return self._processed(text, special) not in ([], self._plain.encode(text, special))

    def _rest(self, before: str, mark: str, after: str, special: bool) -> list[int] | None:
        """The ids of what follows the last image's mark; None if they depend on what is before it."""
        head = before + mark
        rest = self._following(mark, after)
        parts = [*self._plain.encode(head, special), *rest]
        return rest if parts == self._plain.encode(head + after, special) else None

    def _following(self, mark: str, after: str) -> list[int]:
        """The ids of what follows an image's mark, behind the mark."""
        return self.text_ids(mark + after)[len(self.text_ids(mark)) :]

    def _partition(self, text: str) -> tuple[str, str, str]:
        """A text at its last image's mark, which goes on over the processor's marks that close it."""
        before, mark, after = text.rpartition(self._image_mark) if self._image_mark else ("", "", text)
        closing = self._closing.match(after)
        end = closing.end() if mark and closing else 0
        return before, mark + after[:end], after[end:]

    @cached_property
    def _cuts(self) -> bool:
        """Whether the processor makes the same of a text up to its image as of the whole text."""
        try:
            text, begins, _ = self._begin([Message("user", "What is it?", (_BLANK,))], generation_prompt=True)
            before, mark, after = self._partition(text)
            head, whole = (self._process(t, [_BLANK], not begins) for t in (before + mark, text))
            ids: list[int] = [*head["input_ids"][0].tolist(), *self._following(mark, after)]
        except Exception:
            return False
        return ids == whole["input_ids"][0].tolist() and self._end(whole) <= head["input_ids"].shape[1]

    def _store(self, tensors: dict[str, Tensor], bos: list[int], shas: tuple[str, ...]) -> Head:
        """Cache a head's tensors, with one more beginning-of-text token if the prompt has two."""
        if bos:
            for name in PER_TOKEN:
                if name in tensors:
                    tensors[name] = tensors[name][:, [0, *range(tensors[name].shape[1])]]
            tensors["input_ids"][0, 0] = bos[0]
        head = Head(tuple(tensors["input_ids"][0].tolist()), shas)
        self._tensors[head] = tensors
        return head

    def render(self, messages: Sequence[Message], generation_prompt: bool) -> str:
        """The chat template's text, with `generation_prompt` up to where an answer begins.

        What the messages' own texts spell of special tokens is marked (`plain_text`). Raises ModelError.
        """
        turns = []
        for message in messages:
            content = [
                {"type": "text", "text": self._plain.mark(part, answer=message.role == "assistant")}
                if isinstance(part, str)
                else {"type": "image"}
                for part in message.parts
            ]
            turns.append({"role": message.role, "content": content})
        with self._lock, failing_with("the chat template cannot take the prompt"):
            text = render_bounded(
                lambda: self._processor.apply_chat_template(
                    turns,
                    add_generation_prompt=generation_prompt,
                    tokenize=False,
                    **self._template_kwargs,
                )
            )
        if any(message.images and PLACE in message.text for message in messages):
            self._check_order(text, turns)
        return text

    def _check_order(self, text: str, turns: Sequence[dict[str, Any]]) -> None:
        """Raise ModelError if a template has put pictures elsewhere than they are among the texts."""
        at = 0
        for part in (part for turn in turns for part in turn["content"]):
            wanted = part["text"].strip() if part["type"] == "text" else self._image_mark
            found = text.find(wanted, at)
            if (
                found < 0
                or not self._image_mark
                or (part["type"] == "text" and self._image_mark in text[at:found])
            ):
                raise ModelError(
                    "the chat template of this model cannot keep pictures at their places within a text; put "
                    "the pictures first, or choose another model"
                )
            at = found + len(wanted)

    def _process(self, text: str, images: list[LoadedImage], special: bool) -> dict[str, Tensor]:
        # Nested as transformers' own `apply_chat_template` does it: some processors count images by prompt.
        pictures = [[image.pil for image in images]] if images else None
        marked = MARK in text
        processor = self._plain.marked_processor(self._processor) if marked else self._processor
        options = {"add_special_tokens": special}
        if "mm_token_type_ids" in self._processor.model_input_names:  # some give it on request alone
            options["return_mm_token_type_ids"] = True
        with failing_with("the processor cannot take the images"):
            made = processor(text=[text], images=pictures, return_tensors="pt", **options)
        tensors = {name: value for name, value in made.items() if isinstance(value, Tensor)}
        if not marked:
            return tensors
        own = tensors["input_ids"][0] != self._plain.mark_id
        return {name: value[:, own] if name in PER_TOKEN else value for name, value in tensors.items()}

    def _end(self, whole: dict[str, Tensor]) -> int:
        """Where the images of a processed prompt end, with the marks around them that it sorts to them."""
        ids = whole["input_ids"][0].tolist()
        own = torch.tensor([token in self._image_ids for token in ids])
        for name in _TYPES:
            if name in whole:
                own |= whole[name][0] != 0
        end = int(own.nonzero()[-1]) + 1 if own.any() else 0
        while 0 < end < len(ids) - 1 and ids[end] in self._marks:
            end += 1
        return end

    def _divide(self, whole: dict[str, Tensor], ids: list[int]) -> tuple[dict[str, Tensor], list[int]]:
        """A processed prompt, cut after the last token of its images."""
        if not self._image_ids.intersection(ids):
            raise ModelError("the chat template has no place for an image; use the original checkpoint's")
        end = self._end(whole)
        head = {name: value[:, :end] if name in PER_TOKEN else value for name, value in whole.items()}
        return head, ids[end:]


def extended(head: dict[str, Tensor], ids: list[int], size: int) -> dict[str, Tensor]:
    """The inputs of a head of `size` tokens, extended by text that sees all of its images."""
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


def _bytes(tensors: dict[str, Tensor]) -> int:
    """Their size for the cache, which refuses what is larger than all of it."""
    return min(sum(tensor.nbytes for tensor in tensors.values()), _TENSOR_BYTES)
