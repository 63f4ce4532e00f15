"""Tiny checkpoints as the tests of local models use them, and pictures to ask about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch
from PIL import Image

from llava_cot.core.question import LoadedImage, load_image
from llava_cot.models.base import Message
from llava_cot.models.local.checkpoint import load_checkpoint
from llava_cot.models.local.model import LocalModel


def noise(seed: int, width: int = 70, height: int = 40) -> LoadedImage:
    """A picture that no other seed has."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return load_image(Image.fromarray(pixels))


@dataclass
class Tiny:
    """A checkpoint, opened by the engine, opened without sharing, and loaded by transformers alone."""

    folder: Path
    model: LocalModel
    alone: LocalModel
    network: Any
    processor: Any

    def inputs(self, messages: tuple[Message, ...]) -> dict[str, torch.Tensor]:
        """What transformers itself makes of messages."""
        turns = [
            {
                "role": message.role,
                "content": [
                    *({"type": "image", "image": image.pil} for image in message.images),
                    {"type": "text", "text": message.text},
                ],
            }
            for message in messages
        ]
        typed = "mm_token_type_ids" in self.processor.model_input_names  # on request in Cosmos 3 Edge
        made = self.processor.apply_chat_template(
            turns,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"return_mm_token_type_ids": True} if typed else {},
        )
        tensors = {name: value for name, value in made.items() if isinstance(value, torch.Tensor)}
        # Llama 4's processor makes bfloat16 of pixels, whatever the model is loaded in.
        dtype = self.network.dtype
        return {
            name: value.to(dtype) if value.is_floating_point() else value for name, value in tensors.items()
        }

    def generate(self, messages: tuple[Message, ...], tokens: int, **options: Any) -> list[int]:
        """Greedy tokens by `transformers.generate`, an end token included."""
        inputs = self.inputs(messages)
        made = self.network.generate(**inputs, max_new_tokens=tokens, do_sample=False, **options)
        return made[0, inputs["input_ids"].shape[1] :].tolist()


def open_tiny(kind: str, folder: Path) -> Tiny:
    """Make a checkpoint of one of `tiny.KINDS` in a folder, and open it in every way."""
    return open_folder(tiny.make(kind, folder))


def open_folder(folder: Path) -> Tiny:
    """Open a checkpoint in every way."""
    loaded = load_checkpoint(folder, "cpu", "float32")
    model, alone = LocalModel(folder, device="cpu"), LocalModel(folder, device="cpu", share=False)
    return Tiny(folder, model, alone, loaded.model, loaded.processor)
