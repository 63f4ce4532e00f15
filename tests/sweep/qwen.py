"""Qwen-VL: positions of three sections, pictures of any size."""

from __future__ import annotations

from typing import Any

import transformers as t

from sweep.parts import chatml, text_size, token_ids, tokenizer, without_video
from sweep.registry import tiny_type

_SPECIAL = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
DEFAULT = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"


def tokenizer_and_ids() -> tuple[Any, dict[str, int]]:
    """The family's tokenizer, and its ids in a configuration."""
    found = tokenizer("<|im_start|>", eos="<|im_end|>", pad="<|endoftext|>", **_SPECIAL)
    return found, token_ids(found, **{f"{name}_id": token for name, token in _SPECIAL.items()})


def rope_of(*sections: int) -> dict[str, Any]:
    return {"rope_type": "default", "mrope_section": list(sections), "rope_theta": 1e4}


def images_of(patch: int) -> Any:
    area = (2 * patch) ** 2
    return t.Qwen2VLImageProcessorPil(
        min_pixels=area, max_pixels=8 * area, patch_size=patch, merge_size=2, temporal_patch_size=2
    )


@tiny_type("qwen2_5_vl", family="Qwen2.5-VL")
def qwen2_5_vl() -> tuple[Any, Any]:
    found, ids = tokenizer_and_ids()
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": 7,
        "window_size": 28,
        "fullatt_block_indexes": [1],
    }
    text = text_size(found, rope_parameters=rope_of(1, 1, 2))
    config = t.Qwen2_5_VLConfig(vision_config=vision, text_config=text, **ids)
    processor = without_video(t.Qwen2_5_VLProcessor)
    return (
        t.Qwen2_5_VLForConditionalGeneration(config),
        processor(images_of(7), found, chat_template=chatml(IMAGE, default_system=DEFAULT)),
    )
