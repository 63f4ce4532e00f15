"""The part of Qwen-Omni that thinks: it hears too, which nothing here asks of it."""

from __future__ import annotations

from typing import Any

import transformers as t

from sweep.parts import chatml, text_size, token_ids, tokenizer
from sweep.qwen import qwen_images, qwen_vision, sections
from sweep.registry import tiny_type

_NAMED = {
    "image_token": "<|IMAGE|>",
    "video_token": "<|VIDEO|>",
    "audio_token": "<|AUDIO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
_TEMPLATE = chatml("<|vision_bos|><|IMAGE|><|vision_eos|>")


# It is not heard: configurations want it.
_AUDIO = {
    "d_model": 16,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "num_mel_bins": 16,
    "output_dim": 32,
}


def _tokenizer() -> Any:
    return tokenizer("<|im_start|>", eos="<|im_end|>", pad="<|endoftext|>", **_NAMED)


def _processor(kind: Any, found: Any, patch: int) -> Any:
    videos = t.Qwen2VLVideoProcessor(patch_size=patch, merge_size=2, temporal_patch_size=2)
    return kind(
        qwen_images(patch), videos, t.WhisperFeatureExtractor(feature_size=16), found, chat_template=_TEMPLATE
    )


@tiny_type("qwen2_5_omni_thinker", family="Qwen2.5-Omni (thinker)", needs=("torchvision",))
def qwen2_5_omni_thinker() -> tuple[Any, Any]:
    found = _tokenizer()
    config = t.Qwen2_5OmniThinkerConfig(
        vision_config=qwen_vision(7, window_size=28, fullatt_block_indexes=[1]),
        audio_config=_AUDIO,
        text_config=text_size(found, rope_parameters=sections(1, 1, 2), tie_word_embeddings=False),
        **token_ids(
            found,
            image_token_index="<|IMAGE|>",
            video_token_index="<|VIDEO|>",
            audio_token_index="<|AUDIO|>",
            audio_start_token_id="<|audio_bos|>",
            vision_start_token_id="<|vision_bos|>",
            audio_end_token_id="<|audio_eos|>",
        ),
    )
    model = t.Qwen2_5OmniThinkerForConditionalGeneration(config)
    return model, _processor(t.Qwen2_5OmniProcessor, found, 7)


@tiny_type("qwen3_omni_moe_thinker", family="Qwen3-Omni (thinker)", needs=("torchvision",))
def qwen3_omni_moe_thinker() -> tuple[Any, Any]:
    found = _tokenizer()
    text = text_size(
        found,
        head_dim=8,
        rope_parameters=sections(2, 1, 1),
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        tie_word_embeddings=False,
    )
    config = t.Qwen3OmniMoeThinkerConfig(
        vision_config=qwen_vision(
            8, depth=3, num_position_embeddings=16, deepstack_visual_indexes=[0, 1], image_size=32
        ),
        audio_config=_AUDIO | {"downsample_hidden_size": 16},
        text_config=text,
        **token_ids(
            found,
            image_token_id="<|IMAGE|>",
            video_token_id="<|VIDEO|>",
            audio_token_id="<|AUDIO|>",
            audio_start_token_id="<|audio_bos|>",
            vision_start_token_id="<|vision_bos|>",
        ),
    )
    model = t.Qwen3OmniMoeThinkerForConditionalGeneration(config)
    return model, _processor(t.Qwen3OmniMoeProcessor, found, 8)


@tiny_type("qwen2_5_omni", family="Qwen2.5-Omni", needs=("torchvision",))
def qwen2_5_omni() -> tuple[Any, Any]:
    thinker, processor = qwen2_5_omni_thinker()
    config = t.Qwen2_5OmniConfig(thinker_config=thinker.config.to_dict(), enable_audio_output=False)
    return t.Qwen2_5OmniForConditionalGeneration(config), processor


@tiny_type("qwen3_omni_moe", family="Qwen3-Omni", needs=("torchvision",))
def qwen3_omni_moe() -> tuple[Any, Any]:
    thinker, processor = qwen3_omni_moe_thinker()
    config = t.Qwen3OmniMoeConfig(thinker_config=thinker.config.to_dict(), enable_audio_output=False)
    return t.Qwen3OmniMoeForConditionalGeneration(config), processor
