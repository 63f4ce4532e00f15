"""Tiny checkpoints with random weights, in the layout of `save_pretrained`, made without a network.

One maker an architecture: `make(kind, folder)`. The weights are wide enough that greedy text varies
and follows the image. All share one byte-level BPE tokenizer of about 330 tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sweep.mllama import mllama_network
from sweep.parts import SENTENCES, text_size, token_ids, vision_size, widen, without_video
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    Llama4TextConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionProcessor,
    LlavaProcessor,
    MllamaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    SiglipVisionConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

CONTEXT = 512
_TURNS = ("<|pad|>", "<|begin|>", "<|user|>", "<|assistant|>", "<|end|>")
_END = (
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}"
    "{% if enable_thinking %}{{ '<think>\n' }}{% endif %}{% endif %}"
)
_TEMPLATE = (
    "{{ '<|begin|>' }}{% for message in messages %}{{ '<|' + message.role + '|>' }}"
    "{% for part in message.content %}{% if part.type == 'image' %}IMAGE{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% if message.role == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}" + _END
)
# As those of Qwen3 and GLM-4.5V do it.
_THINKING_END = (
    "{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '\n</think>\n\n' }}{% endif %}{% endif %}"
)


def make_tokenizer(*more: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE; `more` are special tokens with the last ids."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=alphabet, special_tokens=list(_TURNS), show_progress=False
    )
    core.train_from_iterator(SENTENCES, trainer)
    core.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in ("<|system|>", *more)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|user|>", "<|assistant|>", "<|system|>", *more],
        clean_up_tokenization_spaces=False,
    )


def _text(tokenizer: PreTrainedTokenizerFast, **more: Any) -> dict[str, Any]:
    return text_size(tokenizer, **{"max_position_embeddings": CONTEXT, "tie_word_embeddings": False, **more})


def _mllama() -> tuple[Any, Any]:
    tokenizer = make_tokenizer("<|image|>")
    image = tokenizer.convert_tokens_to_ids("<|image|>")
    processor = MllamaProcessor(
        MllamaImageProcessorPil(size={"height": 16, "width": 16}, max_image_tiles=4), tokenizer
    )
    return mllama_network(image, _text(tokenizer, vocab_size=image, num_hidden_layers=4)), processor


def clip() -> CLIPVisionConfig:
    return CLIPVisionConfig(**vision_size(num_hidden_layers=3, projection_dim=16))


def _llava() -> tuple[Any, Any]:
    tokenizer = make_tokenizer("<image>")
    image = tokenizer.convert_tokens_to_ids("<image>")
    size = {"height": 16, "width": 16}
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size),
        tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    config = LlavaConfig(
        vision_config=clip(),
        text_config=LlamaConfig(**_text(tokenizer)),
        image_token_index=image,
        image_seq_length=16,
    )
    return LlavaForConditionalGeneration(config), processor


_QWEN_NAMES = {
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
}


def _qwen25() -> tuple[Any, Any]:
    tokenizer = make_tokenizer(*_QWEN_NAMES.values())
    images = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=8 * 28 * 28, patch_size=7, merge_size=2)
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
    text = _text(
        tokenizer, rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    )
    config = Qwen2_5_VLConfig(vision_config=vision, text_config=text, **token_ids(tokenizer, **_QWEN_NAMES))
    return Qwen2_5_VLForConditionalGeneration(config), without_video(Qwen2_5_VLProcessor)(images, tokenizer)


def _qwen3() -> tuple[Any, Any]:
    tokenizer = make_tokenizer(*_QWEN_NAMES.values())
    images = Qwen2VLImageProcessorPil(
        min_pixels=16 * 16, max_pixels=8 * 16 * 16, patch_size=8, merge_size=2, temporal_patch_size=2
    )
    vision = {
        "depth": 3,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": 8,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0, 1],
    }
    text = _text(
        tokenizer,
        head_dim=8,
        rope_parameters={"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4},
    )
    config = Qwen3VLConfig(vision_config=vision, text_config=text, **token_ids(tokenizer, **_QWEN_NAMES))
    return Qwen3VLForConditionalGeneration(config), without_video(Qwen3VLProcessor)(images, tokenizer)


def _idefics3(**text: Any) -> tuple[Any, Any]:
    tokenizer = make_tokenizer("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>")
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 16}, do_image_splitting=True
    )
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4)
    config = Idefics3Config(
        vision_config=vision_size(),
        text_config=LlamaConfig(**_text(tokenizer, **text)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        tie_word_embeddings=False,
    )
    return Idefics3ForConditionalGeneration(config), processor


def _llava_onevision() -> tuple[Any, Any]:
    tokenizer = make_tokenizer("<image>", "<video>")
    image, video = tokenizer.convert_tokens_to_ids(["<image>", "<video>"])
    grid = [[16, 16], [16, 32], [32, 16], [32, 32]]
    images = LlavaOnevisionImageProcessorPil(size={"height": 16, "width": 16}, image_grid_pinpoints=grid)
    processor = without_video(LlavaOnevisionProcessor)(
        images, tokenizer, num_image_tokens=16, vision_feature_select_strategy="full"
    )
    vision = SiglipVisionConfig(**vision_size(vision_use_head=False))
    config = LlavaOnevisionConfig(
        vision_config=vision,
        text_config=Qwen2Config(**_text(tokenizer)),
        image_token_index=image,
        video_token_index=video,
        image_grid_pinpoints=grid,
    )
    return LlavaOnevisionForConditionalGeneration(config), processor


def _llama4() -> tuple[Any, Any]:
    """LLaVA on a text model of Llama 4, whose own processor needs torchvision."""
    _, processor = _llava()
    text = Llama4TextConfig(
        **_text(processor.tokenizer),
        head_dim=8,
        intermediate_size_mlp=48,
        moe_layers=[],  # of two experts alike, rounding would choose
        no_rope_layers=[1, 0, 0],
        attention_chunk_size=CONTEXT,
        floor_scale=4,
        attn_scale=0.4,
    )
    config = LlavaConfig(
        vision_config=clip(),
        text_config=text,
        image_token_index=processor.image_token_id,
        image_seq_length=16,
    )
    return LlavaForConditionalGeneration(config), processor


_MAKERS: dict[str, tuple[Callable[..., tuple[Any, Any]], str]] = {
    "mllama": (_mllama, "<|image|>"),
    "llava": (_llava, "<image>"),
    "qwen2.5-vl": (_qwen25, "<|vision_start|><|image_pad|><|vision_end|>"),
    "qwen3-vl": (_qwen3, "<|vision_start|><|image_pad|><|vision_end|>"),
    "idefics3": (_idefics3, "<image>"),
    "llava-onevision": (_llava_onevision, "<image>"),
    "llama4": (_llama4, "<image>"),
}
KINDS = ("mllama", "llava", "qwen2.5-vl", "qwen3-vl", "idefics3")
ALL_KINDS = tuple(_MAKERS)  # with those that differ in the engine alone


def make(kind: str, folder: Path, seed: int = 0, *, thinking: bool = False, **text: Any) -> Path:
    """Save a checkpoint of one of `ALL_KINDS` in `folder`, and give the folder back.

    With `thinking`, its chat template opens `<think>`, unless told by `enable_thinking`.
    `text` are other settings of the text model, which idefics3 takes.
    """
    maker, image = _MAKERS[kind]
    torch.manual_seed(seed)
    model, processor = maker(**text)
    widen(model)
    processor.chat_template = _TEMPLATE.replace("IMAGE", image)
    if thinking:
        processor.chat_template = processor.chat_template[: -len(_END)] + _THINKING_END
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
