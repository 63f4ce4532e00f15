"""A checkpoint as transformers alone runs it: weights, processor, and a prompt as the model's input.

What the published procedure and the floor stand on. Uses nothing of the project's own engine.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging

from llava_cot.models.base import Prompt


@dataclass(frozen=True)
class Plain:
    """Model and processor, on the CPU in float32."""

    model: Any
    processor: Any

    @property
    def tokenizer(self) -> Any:
        return self.processor.tokenizer

    def encode(self, prompt: Prompt) -> dict[str, Tensor]:
        """The model's inputs, pictures processed afresh: input_ids [1, T] and what goes with them."""
        messages = [
            {
                "role": message.role,
                "content": [
                    *({"type": "image"} for _ in message.images),
                    {"type": "text", "text": message.text},
                ],
            }
            for message in prompt.messages
        ]
        text = self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        pictures = [image.pil for message in prompt.messages for image in message.images]
        inputs = self.processor(
            text=text, images=pictures or None, add_special_tokens=False, return_tensors="pt"
        )
        prefix = prompt.prefix_tokens
        if prefix is None:
            prefix = self.tokenizer(prompt.prefix, add_special_tokens=False).input_ids
        return extend(dict(inputs), prefix)


def extend(inputs: dict[str, Tensor], tokens: tuple[int, ...] | list[int]) -> dict[str, Tensor]:
    """The inputs with these tokens after them, which see what the last token saw."""
    if not tokens:
        return inputs
    more = dict(inputs)
    more["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([list(tokens)])], dim=1)
    if (types := inputs.get("mm_token_type_ids")) is not None:  # which tokens are of an image
        more["mm_token_type_ids"] = torch.cat([types, types.new_zeros(1, len(tokens))], dim=1)
    for name in ("attention_mask", "cross_attention_mask"):
        if name in inputs:
            last = inputs[name][:, -1:]
            more[name] = torch.cat([inputs[name], last.repeat_interleave(len(tokens), dim=1)], dim=1)
    return more


def open_plain(folder: Path) -> Plain:
    """Load a checkpoint from disk."""
    logging.disable_progress_bar()
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True, use_safetensors=True
    )
    return Plain(model.eval(), AutoProcessor.from_pretrained(folder, local_files_only=True))
