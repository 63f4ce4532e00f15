"""Qwen-VL and others with its vision encoder: positions of three sections, pictures of any size."""

from __future__ import annotations

from typing import Any

import transformers as t

from sweep.parts import chatml, template, text_size, token_ids, tokenizer, vision_size, without_video
from sweep.registry import tiny_type

_SPECIAL = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}
_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
_DEFAULT = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"


def qwen_tokenizer() -> Any:
    return tokenizer("<|im_start|>", eos="<|im_end|>", pad="<|endoftext|>", **_SPECIAL)


def qwen_ids(found: Any) -> dict[str, int]:
    """The ids that the configurations have."""
    return token_ids(found, **{f"{name}_id": token for name, token in _SPECIAL.items()})


def qwen_images(patch: int) -> Any:
    area = (2 * patch) ** 2
    return t.Qwen2VLImageProcessorPil(
        min_pixels=area, max_pixels=8 * area, patch_size=patch, merge_size=2, temporal_patch_size=2
    )


def sections(*lengths: int) -> dict[str, Any]:
    """The settings of positions in a picture: time, height, width."""
    return {"rope_type": "default", "mrope_section": list(lengths), "rope_theta": 1e4}


def qwen_vision(patch: int, **more: Any) -> dict[str, Any]:
    return {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": patch,
        **more,
    }


@tiny_type("qwen2_vl", family="Qwen2-VL")
def qwen2_vl() -> tuple[Any, Any]:
    found = qwen_tokenizer()
    vision = {"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 7}
    text = text_size(found, rope_parameters=sections(1, 1, 2), tie_word_embeddings=False)
    config = t.Qwen2VLConfig(vision_config=vision, text_config=text, **qwen_ids(found))
    processor = without_video(t.Qwen2VLProcessor)(
        qwen_images(7), found, chat_template=chatml(_IMAGE, default_system=_DEFAULT)
    )
    return t.Qwen2VLForConditionalGeneration(config), processor


@tiny_type("qwen2_5_vl", family="Qwen2.5-VL")
def qwen2_5_vl() -> tuple[Any, Any]:
    found = qwen_tokenizer()
    config = t.Qwen2_5_VLConfig(
        vision_config=qwen_vision(7, window_size=28, fullatt_block_indexes=[1]),
        text_config=text_size(found, rope_parameters=sections(1, 1, 2)),
        tie_word_embeddings=True,
        **qwen_ids(found),
    )
    processor = without_video(t.Qwen2_5_VLProcessor)(
        qwen_images(7), found, chat_template=chatml(_IMAGE, default_system=_DEFAULT)
    )
    return t.Qwen2_5_VLForConditionalGeneration(config), processor


@tiny_type("qwen3_vl", family="Qwen3-VL")
def qwen3_vl() -> tuple[Any, Any]:
    found = qwen_tokenizer()
    config = t.Qwen3VLConfig(
        vision_config=qwen_vision(8, depth=3, num_position_embeddings=16, deepstack_visual_indexes=[0, 1]),
        text_config=text_size(found, head_dim=8, rope_parameters=sections(2, 1, 1)),
        tie_word_embeddings=True,
        **qwen_ids(found),
    )
    processor = without_video(t.Qwen3VLProcessor)(qwen_images(8), found, chat_template=chatml(_IMAGE))
    return t.Qwen3VLForConditionalGeneration(config), processor


@tiny_type("qwen3_vl_moe", family="Qwen3-VL-30B-A3B")
def qwen3_vl_moe() -> tuple[Any, Any]:
    found = qwen_tokenizer()
    text = text_size(
        found,
        head_dim=8,
        rope_parameters=sections(2, 1, 1),
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        tie_word_embeddings=False,
    )
    config = t.Qwen3VLMoeConfig(
        vision_config=qwen_vision(8, depth=3, num_position_embeddings=16, deepstack_visual_indexes=[0, 1]),
        text_config=text,
        **qwen_ids(found),
    )
    processor = without_video(t.Qwen3VLProcessor)(qwen_images(8), found, chat_template=chatml(_IMAGE))
    return t.Qwen3VLMoeForConditionalGeneration(config), processor


@tiny_type("cosmos3_omni", family="Cosmos 3", needs=("torchvision",))
def cosmos3_omni() -> tuple[Any, Any]:
    found = qwen_tokenizer()
    config = t.Cosmos3OmniConfig(
        vision_config=qwen_vision(8, depth=3, num_position_embeddings=16, deepstack_visual_indexes=[0, 1]),
        text_config=text_size(
            found, head_dim=8, rope_parameters=sections(2, 1, 1), tie_word_embeddings=False
        ),
        **qwen_ids(found),
    )
    videos = t.Qwen3VLVideoProcessor(patch_size=8, merge_size=2, temporal_patch_size=2)
    processor = t.Qwen3VLProcessor(qwen_images(8), found, videos, chat_template=chatml(_IMAGE))
    return t.Cosmos3OmniForConditionalGeneration(config), processor


@tiny_type("cosmos3_edge", family="Cosmos 3 Edge")
def cosmos3_edge() -> tuple[Any, Any]:
    found = qwen_tokenizer()
    text = text_size(found, head_dim=8, rope_parameters=sections(2, 1, 1), tie_word_embeddings=False)
    config = t.Cosmos3EdgeConfig(
        vision_config=vision_size(num_patches=16, spatial_merge_size=2),
        text_config=text,
        projector_hidden_size=32,
        **qwen_ids(found),
    )
    images = t.Cosmos3EdgeImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": 8 * 64}, patch_size=4, merge_size=2
    )
    processor = without_video(t.Cosmos3EdgeProcessor)(images, found, chat_template=chatml(_IMAGE))
    return t.Cosmos3EdgeForConditionalGeneration(config), processor


@tiny_type("hyperclovax_vision_v2", family="HyperCLOVA X SEED Think")
def hyperclovax_vision_v2() -> tuple[Any, Any]:
    found = tokenizer(
        "<|im_start|>",
        "<|image_start|>",
        "<|image_end|>",
        eos="<|im_end|>",
        pad="<|endoftext|>",
        image_token="<|IMAGE_PAD|>",
        video_token="<|VIDEO_PAD|>",
    )
    config = t.HyperCLOVAXVisionV2Config(
        vision_config=t.Qwen2_5_VLConfig(
            vision_config=qwen_vision(7, window_size=28, fullatt_block_indexes=[1])
        ).vision_config,
        text_config=t.HyperCLOVAXConfig(**text_size(found, tie_word_embeddings=False), logits_scaling=0.5),
        tie_word_embeddings=False,
        **token_ids(found, image_token_id="<|IMAGE_PAD|>", video_token_id="<|VIDEO_PAD|>"),
    )
    processor = without_video(t.HyperCLOVAXVisionV2Processor)(
        qwen_images(7), found, chat_template=chatml("<|image_start|><|IMAGE_PAD|><|image_end|>\n")
    )
    return t.HyperCLOVAXVisionV2ForConditionalGeneration(config), processor


@tiny_type("ernie4_5_vl_moe", family="ERNIE 4.5 VL")
def ernie4_5_vl_moe() -> tuple[Any, Any]:
    named = {
        "image_token": "<|IMAGE_PLACEHOLDER|>",
        "image_start_token": "<|IMAGE_START|>",
        "image_end_token": "<|IMAGE_END|>",
        "video_token": "<|VIDEO_PLACEHOLDER|>",
        "video_start_token": "<|VIDEO_START|>",
        "video_end_token": "<|VIDEO_END|>",
    }
    found = tokenizer("<|begin_of_sentence|>", bos="<s>", eos="</s>", pad="<unk>", **named)
    images = t.Ernie4_5_VLMoeImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": 8 * 64}, patch_size=4, merge_size=2
    )
    chat = template(
        begin="<|begin_of_sentence|>",
        system="{}\n",
        user="User: {}",
        assistant="\nAssistant: {}<|end_of_sentence|>",
        answer="\nAssistant: ",
        image="Picture:<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
    )
    text = text_size(
        found,
        rope_parameters=sections(1, 1, 2),
        moe_num_experts=4,
        moe_k=2,
        moe_num_shared_experts=1,
        moe_intermediate_size=[16, 8],
    )
    config = t.Ernie4_5_VLMoeConfig(
        vision_config=qwen_vision(4),
        text_config=text,
        **token_ids(found, **{f"{name}_id": token for name, token in named.items()}),
    )

    class Processor(without_video(t.Ernie4_5_VLMoeProcessor)):  # type: ignore[misc]
        """One that saves itself without the font of its videos."""

        save_pretrained = t.ProcessorMixin.save_pretrained

    Processor.__name__ = "Ernie4_5_VLMoeProcessor"
    return t.Ernie4_5_VLMoeForConditionalGeneration(config), Processor(images, found, chat_template=chat)
