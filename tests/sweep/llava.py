"""LLaVA and what was made from it."""

from __future__ import annotations

from typing import Any

import transformers as t

from sweep.parts import chatml, template, text_size, token_ids, tokenizer, vision_size, without_video
from sweep.registry import tiny_type

_VICUNA = template(
    begin="<s>",
    system="{} ",
    user="USER: {} ",
    assistant="ASSISTANT: {}</s>",
    answer="ASSISTANT:",
    image="<image>\n",
    images_first=True,
)
_HELPFUL = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
_GRID = [[16, 32], [32, 16], [32, 32]]


def _llama_tokenizer(**named: str) -> Any:
    return tokenizer(bos="<s>", eos="</s>", pad="<pad>", image_token="<image>", **named)


def _clip(**more: Any) -> Any:
    return t.CLIPVisionConfig(**vision_size(num_hidden_layers=3, projection_dim=16, **more))


def _llava_processor(found: Any, chat_template: str) -> Any:
    return t.LlavaProcessor(
        t.CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        found,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template,
    )


def _next_images() -> Any:
    return t.LlavaNextImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}, image_grid_pinpoints=_GRID
    )


@tiny_type("llava", family="LLaVA 1.5")
def llava() -> tuple[Any, Any]:
    found = _llama_tokenizer()
    config = t.LlavaConfig(
        vision_config=_clip(),
        text_config=t.LlamaConfig(**text_size(found, tie_word_embeddings=False)),
        image_seq_length=16,
        **token_ids(found, image_token_index="<image>"),
    )
    return t.LlavaForConditionalGeneration(config), _llava_processor(found, _VICUNA)


@tiny_type("vipllava", family="ViP-LLaVA")
def vipllava() -> tuple[Any, Any]:
    found = _llama_tokenizer()
    config = t.VipLlavaConfig(
        vision_config=_clip(),
        text_config=t.LlamaConfig(**text_size(found, tie_word_embeddings=False)),
        vision_feature_layer=[-2, -3, 1],
        image_seq_length=16,
        **token_ids(found, image_token_index="<image>"),
    )
    human = template(
        begin="<s>",
        system="{}",
        user="###Human: {}",
        assistant="###Assistant: {}",
        answer="###Assistant:",
        image="<image>\n",
        images_first=True,
        default_system="A chat between a curious human and an assistant.",
    )
    return t.VipLlavaForConditionalGeneration(config), _llava_processor(found, human)


@tiny_type("llava_next", family="LLaVA-NeXT (1.6)")
def llava_next() -> tuple[Any, Any]:
    found = _llama_tokenizer()
    processor = t.LlavaNextProcessor(
        _next_images(),
        found,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template(
            begin="<s>",
            system="<<SYS>>\n{}\n<</SYS>>\n\n",
            user="[INST] {} [/INST]",
            assistant=" {}</s>",
            answer="",
            image="<image>\n",
            images_first=True,
        ),
    )
    config = t.LlavaNextConfig(
        vision_config=_clip(),
        text_config=t.MistralConfig(**text_size(found, tie_word_embeddings=False), sliding_window=None),
        image_grid_pinpoints=_GRID,
        image_seq_length=16,
        **token_ids(found, image_token_index="<image>"),
    )
    return t.LlavaNextForConditionalGeneration(config), processor


@tiny_type("llava_next_video", family="LLaVA-NeXT-Video", needs=("torchvision",))
def llava_next_video() -> tuple[Any, Any]:
    found = _llama_tokenizer(video_token="<video>")
    processor = t.LlavaNextVideoProcessor(
        video_processor=t.LlavaNextVideoVideoProcessor(
            size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
        ),
        image_processor=_next_images(),
        tokenizer=found,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_VICUNA,
    )
    config = t.LlavaNextVideoConfig(
        vision_config=_clip(),
        text_config=t.LlamaConfig(**text_size(found, tie_word_embeddings=False)),
        image_grid_pinpoints=_GRID,
        image_seq_length=16,
        **token_ids(found, image_token_index="<image>", video_token_index="<video>"),
    )
    return t.LlavaNextVideoForConditionalGeneration(config), processor


@tiny_type("llava_onevision", family="LLaVA-OneVision")
def llava_onevision() -> tuple[Any, Any]:
    found = tokenizer(
        "<|im_start|>", eos="<|im_end|>", pad="<|endoftext|>", image_token="<image>", video_token="<video>"
    )
    grid = [[16, 16], *_GRID]
    turn = "<|im_start|>{} {{}}<|im_end|>".format
    processor = without_video(t.LlavaOnevisionProcessor)(
        t.LlavaOnevisionImageProcessorPil(size={"height": 16, "width": 16}, image_grid_pinpoints=grid),
        found,
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=template(
            system=turn("system"),
            user=turn("user"),
            assistant=turn("assistant"),
            answer="<|im_start|>assistant\n",
            image="<image>",
            before_text="\n",
            images_first=True,
        ),
    )
    config = t.LlavaOnevisionConfig(
        vision_config=t.SiglipVisionConfig(**vision_size(vision_use_head=False)),
        text_config=t.Qwen2Config(**text_size(found)),
        image_grid_pinpoints=grid,
        tie_word_embeddings=True,
        **token_ids(found, image_token_index="<image>", video_token_index="<video>"),
    )
    return t.LlavaOnevisionForConditionalGeneration(config), processor


@tiny_type("internvl", family="InternVL3, InternVL3.5")
def internvl() -> tuple[Any, Any]:
    found = tokenizer(
        "<|im_start|>",
        eos="<|im_end|>",
        pad="<|endoftext|>",
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    images = t.GotOcr2ImageProcessorPil(
        size={"height": 16, "width": 16}, crop_to_patches=True, min_patches=1, max_patches=3
    )
    processor = without_video(t.InternVLProcessor)(
        images, found, image_seq_length=4, chat_template=chatml("<IMG_CONTEXT>\n")
    )
    config = t.InternVLConfig(
        vision_config=vision_size(layer_scale_init_value=0.5),
        text_config=t.Qwen2Config(**text_size(found)),
        image_seq_length=4,
        **token_ids(found, image_token_id="<IMG_CONTEXT>"),
    )
    return t.InternVLForConditionalGeneration(config), processor


@tiny_type("granite4_vision", family="Granite 4 Vision")
def granite4_vision() -> tuple[Any, Any]:
    found = tokenizer(
        "<|start_of_role|>", "<|end_of_role|>", eos="<|end_of_text|>", pad="<|pad|>", image_token="<image>"
    )
    turn = "<|start_of_role|>{}<|end_of_role|>{{}}<|end_of_text|>\n".format
    processor = t.Granite4VisionProcessor(
        t.LlavaNextImageProcessorPil(
            size={"height": 16, "width": 16},
            crop_size={"height": 16, "width": 16},
            image_grid_pinpoints=_GRID,
        ),
        found,
        patch_size=4,
        vision_feature_select_strategy="full",
        downsample_rate="1/2",
        chat_template=template(
            system=turn("system"),
            user=turn("user"),
            assistant=turn("assistant"),
            answer="<|start_of_role|>assistant<|end_of_role|>",
            image="<image>\n",
        ),
    )
    config = t.Granite4VisionConfig(
        vision_config=t.SiglipVisionConfig(
            **vision_size(hidden_size=64, num_hidden_layers=3, vision_use_head=False)
        ),
        text_config=text_size(
            found,
            num_hidden_layers=4,
            embedding_multiplier=2.0,
            residual_multiplier=0.8,
            attention_multiplier=0.35,
            tie_word_embeddings=False,
        ),
        vision_feature_select_strategy="full",
        downsample_rate="1/2",
        deepstack_layer_map=[[-1, 0], [-2, 1]],
        spatial_vision_layer=-1,
        spatial_target_layers=[0, 1, 2, 3],
        image_grid_pinpoints=_GRID,
        image_seq_length=4,
        **token_ids(found, image_token_index="<image>"),
    )
    return t.Granite4VisionForConditionalGeneration(config), processor


@tiny_type("aria", family="Aria")
def aria() -> tuple[Any, Any]:
    found = tokenizer(
        "<|im_start|>", "<fim_prefix>", "<fim_suffix>", eos="<|im_end|>", pad="<unk>", image_token="<|img|>"
    )
    processor = t.AriaProcessor(
        t.AriaImageProcessorPil(max_image_size=490, min_image_size=70),
        found,
        chat_template=chatml("<fim_prefix><|img|><fim_suffix>"),
        size_conversion={490: 4, 980: 8},
    )
    config = t.AriaConfig(
        vision_config=t.Idefics3VisionConfig(**vision_size(image_size=490, patch_size=70)),
        text_config=text_size(
            found, moe_num_experts=4, moe_topk=2, moe_num_shared_experts=1, tie_word_embeddings=False
        ),
        projector_patch_to_query_dict={49: 4, 196: 8},
        **token_ids(found, image_token_index="<|img|>"),
    )
    return t.AriaForConditionalGeneration(config), processor


@tiny_type("video_llava", family="Video-LLaVA", needs=("torchvision",))
def video_llava() -> tuple[Any, Any]:
    found = _llama_tokenizer(video_token="<video>")
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    processor = t.VideoLlavaProcessor(
        t.VideoLlavaImageProcessor(**size),
        t.VideoLlavaVideoProcessor(**size),
        found,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_VICUNA,
    )
    config = t.VideoLlavaConfig(
        vision_config=_clip(),
        text_config=t.LlamaConfig(**text_size(found, tie_word_embeddings=False)),
        image_seq_length=16,
        **token_ids(found, image_token_index="<image>", video_token_index="<video>"),
    )
    return t.VideoLlavaForConditionalGeneration(config), processor


@tiny_type("fast_vlm", family="FastVLM", needs=("timm",))
def fast_vlm() -> tuple[Any, Any]:
    found = tokenizer("<|im_start|>", eos="<|im_end|>", pad="<|endoftext|>", image_token="<image>")
    processor = t.LlavaProcessor(
        t.CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}),
        found,
        patch_size=64,
        vision_feature_select_strategy="full",
        chat_template=chatml("<image>\n", default_system=_HELPFUL),
    )
    config = t.FastVlmConfig(
        vision_config={
            "model_type": "timm_wrapper",
            "architecture": "fastvit_mci3",
            "do_pooling": True,
            "global_pool": "avg",
            "hidden_size": 64,
            "model_args": {
                "inference_mode": True,
                "embed_dims": [8, 8, 8, 32, 32],
                "layers": [1, 1, 1, 1, 1],
            },
        },
        text_config=t.Qwen2Config(**text_size(found)),
        image_seq_length=1,
        tie_word_embeddings=True,
        **token_ids(found, image_token_index="<image>"),
    )
    return t.FastVlmForConditionalGeneration(config), processor
