"""DeepSeek-VL and Janus, and Emu3 that draws as Janus does."""

from __future__ import annotations

from typing import Any

import transformers as t

from sweep.parts import template, text_size, token_ids, tokenizer, vision_size
from sweep.registry import tiny_type

_BEGIN, _END = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"


def _tokenizer(**named: str) -> Any:
    return tokenizer(bos=_BEGIN, eos=_END, pad="<｜▁pad▁｜>", **named)


_TEMPLATE = template(
    begin=_BEGIN,
    default_system="You are a helpful language and vision assistant.\n\n",
    system="{}\n\n",
    user="User: {}\n\n",
    assistant="Assistant: {}" + _END,
    answer="Assistant:",
    image="<image_placeholder>",
)


@tiny_type("deepseek_vl", family="DeepSeek-VL 1.3B")
def deepseek_vl() -> tuple[Any, Any]:
    found = _tokenizer(image_token="<image_placeholder>")
    processor = t.DeepseekVLProcessor(
        t.DeepseekVLImageProcessorPil(size={"height": 16, "width": 16}, min_size=4),
        found,
        chat_template=_TEMPLATE,
        num_image_tokens=16,
    )
    config = t.DeepseekVLConfig(
        vision_config=t.SiglipVisionConfig(**vision_size(vision_use_head=False)),
        text_config=t.LlamaConfig(**text_size(found, tie_word_embeddings=False)),
        tie_word_embeddings=False,
        **token_ids(found, image_token_id="<image_placeholder>"),
    )
    return t.DeepseekVLForConditionalGeneration(config), processor


@tiny_type("deepseek_vl_hybrid", family="DeepSeek-VL 7B")
def deepseek_vl_hybrid() -> tuple[Any, Any]:
    found = _tokenizer(image_token="<image_placeholder>")
    images = t.DeepseekVLHybridImageProcessorPil(
        size={"height": 16, "width": 16}, high_res_size={"height": 32, "width": 32}, min_size=4
    )
    processor = t.DeepseekVLHybridProcessor(images, found, chat_template=_TEMPLATE, num_image_tokens=16)
    fine = t.SamVisionConfig(
        **vision_size(image_size=32, output_channels=8, mlp_dim=32, window_size=4, global_attn_indexes=[0, 1])
    )
    config = t.DeepseekVLHybridConfig(
        vision_config=t.SiglipVisionConfig(**vision_size(vision_use_head=False)),
        high_res_vision_config=fine,
        text_config=t.LlamaConfig(**text_size(found, tie_word_embeddings=False)),
        tie_word_embeddings=False,
        **token_ids(found, image_token_id="<image_placeholder>"),
    )
    return t.DeepseekVLHybridForConditionalGeneration(config), processor


@tiny_type("janus", family="Janus-Pro")
def janus() -> tuple[Any, Any]:
    found = _tokenizer(
        image_token="<image_placeholder>", boi_token="<begin_of_image>", eoi_token="<end_of_image>"
    )
    chat = template(
        begin=_BEGIN,
        system="{}\n\n",
        user="<|User|>: {}\n\n",
        assistant="<|Assistant|>: {}" + _END,
        answer="<|Assistant|>:",
        image="<image_placeholder>\n",
    )
    processor = t.JanusProcessor(
        t.JanusImageProcessorPil(size={"height": 16, "width": 16}, min_size=4),
        found,
        chat_template=chat,
        num_image_tokens=16,
    )
    drawn = {
        "embed_dim": 4,
        "num_embeddings": 16,
        "latent_channels": 32,
        "base_channels": 32,
        "channel_multiplier": [1, 1],
        "num_res_blocks": 1,
        "projection_dim": 32,
        "image_token_embed_dim": 32,
    }
    config = t.JanusConfig(
        vision_config={**vision_size(mlp_ratio=2.0, projection_dim=32, num_image_tokens=16)},
        vq_config=drawn,
        text_config=t.LlamaConfig(**text_size(found, tie_word_embeddings=False)),
        tie_word_embeddings=False,
        **token_ids(found, image_token_id="<image_placeholder>"),
    )
    return t.JanusForConditionalGeneration(config), processor


@tiny_type("emu3", family="Emu3-Chat")
def emu3() -> tuple[Any, Any]:
    drawn = [f"<|visual token {number:06d}|>" for number in range(16)]
    found = tokenizer(
        *drawn,
        "<|extra_200|>",
        bos="<|extra_203|>",
        eos="<|extra_204|>",
        pad="<|endoftext|>",
        image_token="<image>",
        boi_token="<|image start|>",
        eoi_token="<|image end|>",
        image_wrapper_token="<|image token|>",
        eof_token="<|extra_201|>",
    )
    chat = template(
        begin="<|extra_203|>",
        default_system="You are a helpful assistant.",
        system="{}",
        user=" USER: {}",
        assistant=" ASSISTANT: {}<|extra_204|>",
        answer=" ASSISTANT:",
        image="<image>",
    )
    config = t.Emu3Config(
        vq_config={
            "codebook_size": 16,
            "embed_dim": 4,
            "latent_channels": 4,
            "base_channels": 32,
            "channel_multiplier": [1, 1, 1, 1],
            "num_res_blocks": 1,
            "hidden_size": 32,
            "attn_resolutions": [],
        },
        text_config=text_size(found, tie_word_embeddings=False),
        vocabulary_map={
            token: found.convert_tokens_to_ids(token) for token in (*drawn, "<|extra_200|>", "<image>")
        },
    )
    images = t.Emu3ImageProcessor(min_pixels=16 * 16, max_pixels=40 * 40)
    return t.Emu3ForConditionalGeneration(config), t.Emu3Processor(images, found, chat_template=chat)


@tiny_type("deepseek_ocr2", family="DeepSeek-OCR 2")
def deepseek_ocr2() -> tuple[Any, Any]:
    found = _tokenizer(image_token="<image>")
    # There are 144 queries for a picture of 12 x 12 cells of 16 patches each.
    images = t.DeepseekOcr2ImageProcessorPil(size={"height": 96, "width": 96}, tile_size=96)
    processor = t.DeepseekOcr2Processor(
        images,
        found,
        patch_size=2,
        downsample_ratio=4,
        chat_template=template(
            begin=_BEGIN, system="{}\n", user="{}", assistant="{}" + _END, answer="", image="<image>\n"
        ),
    )
    sam = vision_size(
        hidden_size=8,
        image_size=96,
        patch_size=2,
        output_channels=8,
        mlp_ratio=2.0,
        window_size=8,
        global_attn_indexes=[],
        downsample_channels=[8, 16],
    )
    encoder = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    text = text_size(
        found,
        num_key_value_heads=4,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_shared_experts=1,
        moe_intermediate_size=16,
        mlp_layer_types=["dense", "sparse", "sparse"],
        tie_word_embeddings=False,
    )
    config = t.DeepseekOcr2Config(
        vision_config={"sam_config": sam, "encoder_config": encoder},
        text_config=text,
        **token_ids(found, image_token_id="<image>"),
    )
    return t.DeepseekOcr2ForConditionalGeneration(config), processor
