"""Prompts as token ids and image tensors, by a checkpoint's chat template and processor.

A prompt is cut in two: the *head*, everything up to its last image, which runs with pixels, and plain tokens
after it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache
from torch import Tensor
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from llava_cot.core.question import LoadedImage
from llava_cot.errors import ModelError
from llava_cot.models.base import Message, Prompt
from llava_cot.models.local.checkpoint import first_sentence

PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "cross_attention_mask")
# Cached tensors of heads that wait to be run; they are computed anew where they are dropped.
_TENSOR_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Head:
    """A prompt up to its last image. Equal to another if the ids are, and the images by their pixels."""

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

    With `double_bos`, prompts begin with the token for the beginning of text twice.
    """

    def __init__(self, processor: Any, config: Any, double_bos: bool) -> None:
        self._processor = processor
        self._tokenizer = processor.tokenizer
        self._double_bos = double_bos
        self._image_mark = getattr(processor, "image_token", None) or ""
        sources = ((processor, "image_token_id"), (config, "image_token_id"), (config, "image_token_index"))
        ids = (getattr(source, name, None) for source, name in sources)
        self._image_ids = frozenset(token for token in ids if isinstance(token, int))
        # Whether the text after a head can be encoded alone; tested at the first prompt with images.
        self._splits: bool | None = None
        self._lock = threading.RLock()
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
            return (*bos, *self._tokenizer.encode(text, add_special_tokens=not begins))

    def conversation_tensors(self, messages: tuple[Message, ...]) -> dict[str, Tensor]:
        """The model's inputs for a whole conversation with its images, one row. Raises ModelError."""
        with self._lock:
            text, begins, _ = self._begin(messages, generation_prompt=False)
            images = [image for message in messages for image in message.images]
            return self._process(text, images, not begins)

    def text_ids(self, text: str) -> list[int]:
        """The ids of a text by itself."""
        with self._lock:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def prefix_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids of the assistant's text so far."""
        if prompt.prefix_tokens is not None:
            return prompt.prefix_tokens
        return tuple(self.text_ids(prompt.prefix)) if prompt.prefix else ()

    def option_ids(self, prefix: str, option: str) -> list[int]:
        """The ids of an option as in one text with the prefix, where the prefix keeps its own ids there."""
        before, both = self.text_ids(prefix), self.text_ids(prefix + option)
        cut = len(before)
        return both[cut:] if both[:cut] == before and len(both) > cut else self.text_ids(option)

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
        if not images:
            ids = self._tokenizer.encode(text, add_special_tokens=not begins)
            return (*bos, *ids), None
        shas = tuple(image.sha256 for image in images)
        before, mark, after = text.rpartition(self._image_mark) if self._image_mark else ("", "", text)
        key = (before + mark, shas)
        head = None
        rest: list[int] = []
        if mark and self._splits is not False:
            rest = self.text_ids(mark + after)[1:]
            head = None if again or self._splits is None else self._heads.get(key)
            if head is None:
                tensors = self._process(before + mark, images, not begins)
                head = self._heads[key] = self._store(tensors, bos, shas)
        if self._splits is None or head is None:
            whole = self._process(text, images, not begins)
            ids = whole["input_ids"][0].tolist()
            self._splits = head is not None and list(head.ids) + rest == bos + ids
            if not self._splits:
                tensors, rest = self._divide(whole, ids)
                head = self._store(tensors, bos, shas)
        assert head is not None
        return (*head.ids, *rest), head

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

        Image marks in the messages' own texts are dropped. Raises ModelError.
        """
        turns = []
        for message in messages:
            words = message.text.replace(self._image_mark, "") if self._image_mark else message.text
            content: list[dict[str, str]] = [{"type": "image"} for _ in message.images]
            turns.append({"role": message.role, "content": [*content, {"type": "text", "text": words}]})
        try:
            with self._lock:
                text: str = self._processor.apply_chat_template(
                    turns, add_generation_prompt=generation_prompt, tokenize=False
                )
        except Exception as error:
            raise ModelError(f"the chat template cannot take the prompt: {first_sentence(error)}") from None
        return text

    def _process(self, text: str, images: list[LoadedImage], special: bool) -> dict[str, Tensor]:
        pictures = [image.pil for image in images] or None
        try:
            made = self._processor(
                text=[text], images=pictures, return_tensors="pt", add_special_tokens=special
            )
        except Exception as error:
            raise ModelError(f"the processor cannot take the images: {first_sentence(error)}") from None
        return {name: value for name, value in made.items() if isinstance(value, Tensor)}

    def _divide(self, whole: dict[str, Tensor], ids: list[int]) -> tuple[dict[str, Tensor], list[int]]:
        """A processed prompt, cut after its last image token."""
        places = [i for i, token in enumerate(ids) if token in self._image_ids]
        if not places:
            raise ModelError("the chat template has no place for an image; use the original checkpoint's")
        end = places[-1] + 1
        head = {name: value[:, :end] if name in PER_TOKEN else value for name, value in whole.items()}
        return head, ids[end:]


def _bytes(tensors: dict[str, Tensor]) -> int:
    """Their size for the cache, which refuses what is larger than all of it."""
    return min(sum(tensor.nbytes for tensor in tensors.values()), _TENSOR_BYTES)
