"""Types with layers that keep a state of fixed size: convolutions, linear attention, state-space layers."""

from __future__ import annotations

from typing import Any

from transformers import (
    Lfm2VlConfig,
    Lfm2VlForConditionalGeneration,
    Lfm2VlProcessor,
    Lfm3VlConfig,
    Lfm3VlForConditionalGeneration,
    Lfm3VlProcessor,
    MiniCPMOcrConfig,
    MiniCPMOcrForConditionalGeneration,
    MiniCPMV4_6Config,
    MiniCPMV4_6ForConditionalGeneration,
    MiniCPMV4_7Config,
    MiniCPMV4_7ForConditionalGeneration,
    NemotronH_Omni_Reasoning_V3,
    NemotronH_Omni_Reasoning_V3_Config,
    ParakeetFeatureExtractor,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen4ExpConfig,
    Qwen4ExpForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from sweep.parts import ids, text_size, tokenizer, turns, vision_size, without_video
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
        layer_types=["conv", "full_attention", "conv", "full_attention"],
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


_EXPERTS = {
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "num_experts": 4,
    "num_experts_per_tok": 2,
}


@tiny_type("qwen3_5_moe", family="Qwen3.5 MoE")
def qwen3_5_moe() -> tuple[Any, Any]:
    found = _qwen_tokenizer()
    text = _linear_text(found, **_EXPERTS)
    config = Qwen3_5MoeConfig(text_config=text, vision_config=_qwen_vision(), **_qwen_ids(found))
    return Qwen3_5MoeForConditionalGeneration(config), _qwen_processor(found, 8)


@tiny_type("qwen4_exp", family="Qwen4 (experimental)", refused=True)
def qwen4_exp() -> tuple[Any, Any]:
    found = _qwen_tokenizer()
    text = _linear_text(found, **_EXPERTS) | {
        "layer_types": ["linear_attention", "linear_attention", "linear_attention", "indexed_attention"],
        "hc_count": 2,
        "hc_lowrank": 8,
        "ple_layer_ids": [1],
        "ple_embed_dim": 32,
        "heads_per_ngram": 2,
        "ngram_vocab_size_base": 200,
        "make_ngram_vocab_size_divisible_by": 4,
        "split_ngram_parts": 2,
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 32,
        "indexer_compress_ratio": 8,
    }
    config = Qwen4ExpConfig(text_config=text, vision_config=_qwen_vision(), **_qwen_ids(found))
    return Qwen4ExpForConditionalGeneration(config), _qwen_processor(found, 8)


@tiny_type("lfm3_vl", family="LFM3-VL")
def lfm3_vl() -> tuple[Any, Any]:
    named = {f"{name}_token": token for name, token in _QWEN.items()}
    found = tokenizer("<|im_start|>", bos="<|startoftext|>", eos="<|im_end|>", pad="<|pad|>", **named)
    images = Qwen2VLImageProcessorPil(min_pixels=16 * 16, max_pixels=8 * 16 * 16, patch_size=8, merge_size=2)
    template = turns("<|im_start|>ROLE\\n", _QWEN_IMAGE, "<|im_end|>\\n", begin="<|startoftext|>")
    processor = without_video(Lfm3VlProcessor)(images, found, chat_template=template)
    text = text_size(
        found,
        model_type="lfm3",
        num_hidden_layers=5,
        head_dim=8,
        layer_types=["conv", "conv", "full_attention", "conv", "sliding_attention"],
        sliding_window=24,
    )
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "patch_size": 8,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    config = Lfm3VlConfig(
        vision_config=vision, text_config=text, projector_hidden_size=32, **_qwen_ids(found), **ids(found)
    )
    return Lfm3VlForConditionalGeneration(config), processor


def _minicpm(config: Any, model: Any, processor: Any, images: Any, **more: Any) -> tuple[Any, Any]:
    """MiniCPM-V: a picture and its slices, each numbered, on Qwen3.5's text model."""
    from transformers import MiniCPMV4_6VideoProcessor

    found = tokenizer(
        "<|im_start|>",
        eos="<|im_end|>",
        pad="<|endoftext|>",
        image_token="<unk>",
        video_token="<|video_pad|>",
        image_start_token="<image>",
        image_end_token="</image>",
        slice_start_token="<slice>",
        slice_end_token="</slice>",
        image_id_start_token="<image_id>",
        image_id_end_token="</image_id>",
    )
    size = {"scale_resolution": 32, "patch_size": 4, "max_slice_nums": 4, "downsample_mode": "16x"}
    template = turns(
        "<|im_start|>ROLE\\n",
        "<unk>",
        "<|im_end|>\\n",
        answer="<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n",
    )
    made = processor(images(**size), MiniCPMV4_6VideoProcessor(**size), found, chat_template=template)
    text = _linear_text(found, model_type="qwen3_5_text")
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
    described = config(
        text_config=text,
        vision_config=vision_size(num_hidden_layers=3, image_size=32),
        insert_layer_id=1,
        image_token_id=found.image_token_id,
        video_token_id=found.video_token_id,
        downsample_mode="16x",
        **more,
    )
    return model(described), made


@tiny_type("minicpmv4_6", family="MiniCPM-V 4.6", needs=("torchvision",))
def minicpmv4_6() -> tuple[Any, Any]:
    from transformers import MiniCPMV4_6ImageProcessor, MiniCPMV4_6Processor

    model = MiniCPMV4_6ForConditionalGeneration
    return _minicpm(MiniCPMV4_6Config, model, MiniCPMV4_6Processor, MiniCPMV4_6ImageProcessor)


@tiny_type("minicpmv4_7", family="MiniCPM-V 4.7", needs=("torchvision",))
def minicpmv4_7() -> tuple[Any, Any]:
    from transformers import MiniCPMV4_6ImageProcessor, MiniCPMV4_7Processor

    model = MiniCPMV4_7ForConditionalGeneration
    return _minicpm(MiniCPMV4_7Config, model, MiniCPMV4_7Processor, MiniCPMV4_6ImageProcessor)


@tiny_type("minicpm_ocr", family="MiniCPM-OCR", needs=("torchvision",))
def minicpm_ocr() -> tuple[Any, Any]:
    from transformers import MiniCPMOcrImageProcessor, MiniCPMOcrProcessor

    model = MiniCPMOcrForConditionalGeneration
    return _minicpm(MiniCPMOcrConfig, model, MiniCPMOcrProcessor, MiniCPMOcrImageProcessor)


@tiny_type("nemotron_h_omni", family="Nemotron-H Omni", needs=("torchvision",))
def nemotron_h_omni() -> tuple[Any, Any]:
    from transformers import (
        NemotronH_Omni_Reasoning_V3ImageProcessor,
        NemotronH_Omni_Reasoning_V3Processor,
        NemotronH_Omni_Reasoning_V3VideoProcessor,
    )

    found = tokenizer(
        "<|im_start|>", "<think>", "</think>", "<img>", "</img>", "<video>", "<so_start>", "<so_end>",
        bos="<s>", eos="<|im_end|>", pad="<unk>", image_token="<image>", audio_token="<so_embedding>",
    )  # fmt: skip
    images = NemotronH_Omni_Reasoning_V3ImageProcessor(patch_size=4, min_num_patches=8, max_num_patches=32)
    template = turns(
        "<|im_start|>ROLE\\n", "<image>", "<|im_end|>\\n", answer="<|im_start|>assistant\\n<think>\\n"
    )
    processor = NemotronH_Omni_Reasoning_V3Processor(
        images,
        NemotronH_Omni_Reasoning_V3VideoProcessor(),
        found,
        ParakeetFeatureExtractor(),
        chat_template=template,
    )
    text = text_size(
        found,
        model_type="nemotron_h",
        layers_block_type=["linear_attention", "moe", "full_attention", "mlp", "linear_attention", "moe"],
        num_hidden_layers=6,
        head_dim=8,
        ssm_state_size=8,
        mamba_num_heads=4,
        mamba_head_dim=8,
        n_groups=2,
        chunk_size=8,
        time_step_min=1e-8,  # which transformers keeps to in a text of several tokens, not in one of one
        n_routed_experts=4,
        moe_intermediate_size=16,
        moe_shared_expert_intermediate_size=16,
        tie_word_embeddings=False,
    )
    vision = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "patch_size": 4,
        "image_size": 16,
        "max_img_size": 64,
        "num_cls_tokens": 1,
        "num_registers": 1,
        "summary_idxs": [0],
        "video_temporal_patch_size": 2,
    }
    config = NemotronH_Omni_Reasoning_V3_Config(
        vision_config={"model_type": "radio", **vision},
        text_config=text,
        audio_config=None,
        projector_hidden_size=32,
        vision_hidden_size=16,
        image_token_id=found.image_token_id,
        video_token_id=found.image_token_id,
        audio_token_id=found.audio_token_id,
        **ids(found),
    )
    return NemotronH_Omni_Reasoning_V3(config), processor
