"""GLM-V."""

from __future__ import annotations

from typing import Any

import transformers as t

from sweep.parts import template, text_size, token_ids, tokenizer, without_video
from sweep.qwen import qwen_vision, sections
from sweep.registry import tiny_type

_TOKENS = {
    "image_start_token": "<|begin_of_image|>",
    "image_end_token": "<|end_of_image|>",
    "video_start_token": "<|begin_of_video|>",
    "video_end_token": "<|end_of_video|>",
    "image_token": "<|image|>",
    "video_token": "<|video|>",
}
GLM = template(
    begin="[gMASK]<sop>",
    system="<|system|>\n{}",
    user="<|user|>\n{}",
    assistant="<|assistant|>\n{}",
    answer="<|assistant|>\n",
    image="<|begin_of_image|><|image|><|end_of_image|>",
)
_ROUTED = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
}


def glm_tokenizer() -> Any:
    roles = ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>")
    return tokenizer(*roles, eos="<|endoftext|>", pad="<|endoftext|>", **_TOKENS)


def glm_images(kind: Any) -> Any:
    return kind(
        size={"shortest_edge": 12 * 12, "longest_edge": 2 * 8 * 12 * 12},
        patch_size=6,
        merge_size=2,
        temporal_patch_size=2,
    )


def glm_config(kind: Any, found: Any, **more: Any) -> Any:
    rope = {**sections(1, 1, 2), "partial_rotary_factor": 1.0}
    ends = [found.eos_token_id, found.convert_tokens_to_ids("<|user|>")]
    text = text_size(
        found, rope_parameters=rope, tie_word_embeddings=False, eos_token_id=ends, head_dim=8, **more
    )
    return kind(
        vision_config=qwen_vision(6, image_size=24),
        text_config=text,
        **token_ids(found, **{f"{name}_id": token for name, token in _TOKENS.items()}),
    )


@tiny_type("glm4v", family="GLM-4.1V")
def glm4v() -> tuple[Any, Any]:
    found = glm_tokenizer()
    images = glm_images(t.Glm4vImageProcessorPil)
    processor = without_video(t.Glm4vProcessor)(images, found, chat_template=GLM)
    return t.Glm4vForConditionalGeneration(glm_config(t.Glm4vConfig, found)), processor


@tiny_type("glm4v_moe", family="GLM-4.5V")
def glm4v_moe() -> tuple[Any, Any]:
    found = glm_tokenizer()
    images = glm_images(t.Glm4vImageProcessorPil)
    processor = without_video(t.Glm4vProcessor)(images, found, chat_template=GLM)
    return t.Glm4vMoeForConditionalGeneration(glm_config(t.Glm4vMoeConfig, found, **_ROUTED)), processor


@tiny_type("glm46v", family="GLM-4.6V")
def glm46v() -> tuple[Any, Any]:
    found = glm_tokenizer()
    images = glm_images(t.Glm46VImageProcessorPil)
    processor = without_video(t.Glm46VProcessor)(images, found, chat_template=GLM)
    return t.Glm46VForConditionalGeneration(glm_config(t.Glm46VConfig, found)), processor


@tiny_type("glmga", family="GLM-GA", needs=("torchvision",))
def glmga() -> tuple[Any, Any]:
    found = glm_tokenizer()
    images = glm_images(t.GlmgaImageProcessorPil)
    videos = glm_images(t.GlmgaVideoProcessor)
    processor = t.Glm46VProcessor(images, found, videos, chat_template=GLM)
    return t.Glm46VForConditionalGeneration(glm_config(t.GlmgaConfig, found)), processor


@tiny_type("glm5_next", family="GLM-5.3 Flash", refused=True)
def glm5_next() -> tuple[Any, Any]:
    found = glm_tokenizer()
    images = t.Glm5NextImageProcessorPil(patch_size=6, min_image_tokens=2, max_image_tokens=8)
    processor = without_video(t.Glm5NextProcessor)(images, found, chat_template=GLM)
    text = text_size(
        found,
        num_key_value_heads=4,
        num_hidden_layers=4,
        layer_types=["linear_attention", "linear_attention", "linear_attention", "indexed_attention"],
        mlp_layer_types=["dense", "sparse", "sparse", "sparse"],
        moe_intermediate_size=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        kv_lora_rank=16,
        q_lora_rank=16,
        qk_nope_head_dim=8,
        v_head_dim=8,
        index_topk=32,
        index_head_dim=8,
        index_n_heads=16,
        index_kpool=4,
        linear_head_dim=8,
        linear_num_heads=4,
        hc_mult=2,
        tie_word_embeddings=False,
    )
    vision = {**qwen_vision(6, image_size=24), "projection_intermediate_size": 32}
    config = t.Glm5NextConfig(
        text_config=text,
        vision_config=vision,
        **token_ids(found, **{f"{name}_id": token for name, token in _TOKENS.items()}),
    )
    return t.Glm5NextForConditionalGeneration(config), processor
