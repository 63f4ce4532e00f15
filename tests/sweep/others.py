"""Families of one type each, most of which ask for a package more."""

from __future__ import annotations

from typing import Any

import transformers as t

from sweep.glm import GLM, glm_config, glm_images, glm_tokenizer
from sweep.parts import template, text_size, token_ids, tokenizer, vision_size, without_video
from sweep.registry import tiny_type


@tiny_type("smolvlm", family="SmolVLM2", needs=("num2words", "torchvision"))
def smolvlm() -> tuple[Any, Any]:
    named = {
        "fake_image_token": "<fake_token_around_image>",
        "image_token": "<image>",
        "end_of_utterance_token": "<end_of_utterance>",
        "global_image_token": "<global-img>",
    }
    found = tokenizer("<|im_start|>", bos="<|im_start|>", eos="<end_of_utterance>", pad="<|im_end|>", **named)
    images = t.SmolVLMImageProcessorPil(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    said = template(
        begin="<|im_start|>",
        system="System: {}<end_of_utterance>\n",
        user="User:{}<end_of_utterance>\n",
        assistant="Assistant: {}<end_of_utterance>\n",
        answer="Assistant:",
        image="<image>",
    )
    processor = t.SmolVLMProcessor(
        images, found, t.SmolVLMVideoProcessor(), image_seq_len=4, chat_template=said
    )
    config = t.SmolVLMConfig(
        vision_config=vision_size(),
        text_config={"model_type": "llama", **text_size(found, tie_word_embeddings=False)},
        image_token_id=found.image_token_id,
        scale_factor=2,
        pad_token_id=found.pad_token_id,
    )
    return t.SmolVLMForConditionalGeneration(config), processor


def mistral_tokenizer() -> Any:
    special = (
        "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"
    )  # fmt: skip
    return tokenizer(*special, bos="<s>", eos="</s>", pad="<pad>")


def mistral_processor(found: Any) -> Any:
    images = t.PixtralImageProcessorPil(size={"longest_edge": 32}, patch_size={"height": 8, "width": 8})
    said = template(
        begin="<s>",
        system="[SYSTEM_PROMPT]{}[/SYSTEM_PROMPT]",
        user="[INST]{}[/INST]",
        assistant="{}</s>",
        answer="",
        image="[IMG]",
        default_system="[SYSTEM_PROMPT]See.[/SYSTEM_PROMPT]",
    )
    return t.PixtralProcessor(images, found, patch_size=4, spatial_merge_size=2, chat_template=said)


@tiny_type("mistral3", family="Mistral Small 3, Ministral 3", needs=("torchvision",))
def mistral3() -> tuple[Any, Any]:
    found = mistral_tokenizer()
    vision = vision_size(image_size=32)
    config = t.Mistral3Config(
        vision_config={"model_type": "pixtral", **vision, "head_dim": 8},
        text_config={"model_type": "mistral", **text_size(found, head_dim=8, sliding_window=None)},
        image_token_index=found.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
        tie_word_embeddings=False,
    )
    return t.Mistral3ForConditionalGeneration(config), mistral_processor(found)


@tiny_type("kimi_k25", family="Kimi K2.5", needs=("torchvision",))
def kimi_k25() -> tuple[Any, Any]:
    special = (
        "<|im_system|>", "<|im_user|>", "<|im_assistant|>", "<|im_middle|>", "<think>", "</think>",
        "<|media_begin|>", "<|media_content|>", "<|media_end|>", "<|media_pad|>",
        "<|kimi_k25_video_placeholder|>",
    )  # fmt: skip
    found = tokenizer(*special, bos="[BOS]", eos="<|im_end|>", pad="[PAD]")
    turn = "<|im_{0}|>{0}<|im_middle|>{{}}<|im_end|>".format
    said = template(
        system=turn("system"),
        user=turn("user"),
        assistant=turn("assistant"),
        answer="<|im_assistant|>assistant<|im_middle|><think>",
        image="<|media_begin|>image<|media_content|><|media_pad|><|media_end|>\n",
    )
    size = {"patch_size": 4, "merge_size": 2}
    images = t.Kimi_K25ImageProcessor(size={"max_height": 8, "max_width": 8}, max_patches=32, **size)
    videos = t.Kimi_K25VideoProcessor(**size)
    processor = t.Kimi_K25Processor(images, found, videos, chat_template=said)
    text = text_size(
        found,
        model_type="deepseek_v3",
        num_key_value_heads=4,
        moe_intermediate_size=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=1,
        kv_lora_rank=16,
        q_lora_rank=24,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
        tie_word_embeddings=False,
    )
    vision = vision_size(pos_emb_height=8, pos_emb_width=8)
    del vision["image_size"]
    config = t.Kimi_K25Config(
        text_config=text,
        vision_config=vision,
        projection_hidden_size=16,
        tie_word_embeddings=False,
        **token_ids(
            found,
            image_token_id="<|media_pad|>",
            video_token_id="<|kimi_k25_video_placeholder|>",
            vision_start_token_id="<|media_begin|>",
            vision_end_token_id="<|media_end|>",
        ),
    )
    return t.Kimi_K25ForConditionalGeneration(config), processor


@tiny_type(
    "perception_lm",
    family="Perception LM",
    needs=("timm", "torchvision"),
)
def perception_lm() -> tuple[Any, Any]:
    found = tokenizer(
        "<|start_header_id|>",
        "<|end_header_id|>",
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        pad="<|end_of_text|>",
        image_token="<|image|>",
        video_token="<|video|>",
    )
    turn = "<|start_header_id|>{}<|end_header_id|>\n\n{{}}<|eot_id|>".format
    said = template(
        begin="<|begin_of_text|>",
        system=turn("system"),
        user=turn("user"),
        assistant=turn("assistant"),
        answer="<|start_header_id|>assistant<|end_header_id|>\n\n",
        image="<|image|>",
        images_first=True,
    )
    images = t.PerceptionLMImageProcessor(tile_size=16, max_num_tiles=2, size={"height": 16, "width": 16})
    videos = t.PerceptionLMVideoProcessor(size={"height": 16, "width": 16})
    processor = t.PerceptionLMProcessor(videos, images, found, patch_size=4, chat_template=said)
    vision = {
        "embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": [16, 16], "patch_size": 4, "global_pool": ""
    }  # fmt: skip
    config = t.PerceptionLMConfig(
        vision_config={"model_type": "timm_wrapper", "architecture": "test_vit", "model_args": vision},
        text_config={"model_type": "llama", **text_size(found)},
        projector_pooling_ratio=2,
        image_token_id=found.image_token_id,
        video_token_id=found.video_token_id,
    )
    return t.PerceptionLMForConditionalGeneration(config), processor


@tiny_type("glm_ocr", family="GLM-OCR")
def glm_ocr() -> tuple[Any, Any]:
    found = glm_tokenizer()
    images = glm_images(t.Glm46VImageProcessorPil)
    processor = without_video(t.Glm46VProcessor)(images, found, chat_template=GLM)
    return t.GlmOcrForConditionalGeneration(glm_config(t.GlmOcrConfig, found)), processor


@tiny_type("phi4_multimodal", family="Phi-4-multimodal", needs=("torchvision",))
def phi4_multimodal() -> tuple[Any, Any]:
    found = tokenizer(
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|end|>",
        bos="<|endoftext|>",
        eos="<|endoftext|>",
        pad="<|endoftext|>",
        image_token="<|endoftext10|>",
        audio_token="<|endoftext11|>",
    )
    said = template(
        system="<|system|>{}<|end|>",
        user="<|user|>{}<|end|>",
        assistant="<|assistant|>{}<|end|>",
        answer="<|assistant|>",
        image="<|endoftext10|>",
    )
    # Its processor knows the number of tokens for the published size alone.
    images = t.Phi4MultimodalImageProcessor(dynamic_hd=4)
    sounds = t.Phi4MultimodalFeatureExtractor()
    processor = t.Phi4MultimodalProcessor(images, sounds, found, chat_template=said)
    vision = vision_size(
        image_size=448, patch_size=14, num_hidden_layers=3, image_token_id=found.image_token_id
    )
    sound = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_blocks": 2,
        "num_attention_heads": 2,
        "ext_pw_out_channel": 16,
        "depthwise_separable_out_channel": 16,
        "nemo_conv_channels": 8,
        "audio_token_id": found.audio_token_id,
    }
    ends = [found.eos_token_id, found.convert_tokens_to_ids("<|end|>")]
    text = text_size(found, eos_token_id=ends, max_position_embeddings=2048)
    config = t.Phi4MultimodalConfig(
        **text, original_max_position_embeddings=2048, vision_config=vision, audio_config=sound
    )
    return t.Phi4MultimodalForCausalLM(config), processor
