"""Types with layers that keep a state of fixed size: convolutions, linear attention, state-space layers."""

from __future__ import annotations

from typing import Any

from transformers import (
    Lfm2VlConfig,
    Lfm2VlForConditionalGeneration,
    Lfm2VlProcessor,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from sweep.parts import text_size, tokenizer, turns, vision_size, without_video
from sweep.registry import tiny_type


@tiny_type("lfm2_vl", family="LFM2-VL", needs=("torchvision",))
def lfm2_vl() -> tuple[Any, Any]:
    from transformers import Lfm2VlImageProcessor

    found = tokenizer(
        "<|im_start|>",
        *(f"<|img_row_{row}_col_{column}|>" for row in (1, 2) for column in (1, 2)),
        bos="<|startoftext|>",
        eos="<|im_end|>",
        pad="<|pad|>",
        image_token="<image>",
        image_start_token="<|image_start|>",
        image_end_token="<|image_end|>",
        image_thumbnail_token="<|img_thumbnail|>",
    )
    images = Lfm2VlImageProcessor(
        tile_size=16, encoder_patch_size=4, min_image_tokens=2, max_image_tokens=6, max_tiles=2
    )
    template = turns("<|im_start|>ROLE\\n", "<image>", "<|im_end|>\\n", begin="<|startoftext|>")
    processor = Lfm2VlProcessor(images, found, chat_template=template)
    vision = vision_size(model_type="siglip2_vision_model", num_patches=16, vision_use_head=False)
    text = text_size(
        found,
        model_type="lfm2",
        num_hidden_layers=4,
        layer_types=["conv", "conv", "full_attention", "conv"],
        block_auto_adjust_ff_dim=False,
    )
    config = Lfm2VlConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=found.image_token_id,
        projector_hidden_size=32,
        downsample_factor=2,
    )
    return Lfm2VlForConditionalGeneration(config), processor


_QWEN = {
    "vision_start": "<|vision_start|>",
    "vision_end": "<|vision_end|>",
    "image": "<|image_pad|>",
    "video": "<|video_pad|>",
}
_QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


def _qwen_tokenizer() -> Any:
    named = {f"{name}_token": token for name, token in _QWEN.items()}
    more = ("<|im_start|>", "<think>", "</think>")
    return tokenizer(*more, eos="<|im_end|>", pad="<|endoftext|>", **named)


def _qwen_ids(found: Any) -> dict[str, int]:
    return {f"{name}_token_id": found.convert_tokens_to_ids(token) for name, token in _QWEN.items()}


def _qwen_processor(found: Any, patch: int) -> Any:
    images = Qwen2VLImageProcessorPil(
        min_pixels=4 * patch * patch, max_pixels=32 * patch * patch, patch_size=patch, merge_size=2
    )
    template = turns(
        "<|im_start|>ROLE\\n", _QWEN_IMAGE, "<|im_end|>\\n", answer="<|im_start|>assistant\\n<think>\\n"
    )
    return without_video(Qwen3VLProcessor)(images, found, chat_template=template)


def _qwen_vision(**more: Any) -> dict[str, Any]:
    return {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": 8,
        "num_position_embeddings": 16,
        **more,
    }


def _linear_text(found: Any, **more: Any) -> dict[str, Any]:
    return text_size(
        found,
        num_hidden_layers=4,
        head_dim=16,
        layer_types=["linear_attention", "linear_attention", "linear_attention", "full_attention"],
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        tie_word_embeddings=False,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 1e4,
            "partial_rotary_factor": 0.5,
            "mrope_section": [2, 1, 1],
            "mrope_interleaved": True,
        },
        **more,
    )


@tiny_type("qwen3_5", family="Qwen3.5")
def qwen3_5() -> tuple[Any, Any]:
    found = _qwen_tokenizer()
    config = Qwen3_5Config(text_config=_linear_text(found), vision_config=_qwen_vision(), **_qwen_ids(found))
    return Qwen3_5ForConditionalGeneration(config), _qwen_processor(found, 8)
