"""Types whose layers attend within a window, or within a chunk."""

from __future__ import annotations

from typing import Any

from transformers import (
    AyaVisionConfig,
    AyaVisionForConditionalGeneration,
    AyaVisionProcessor,
    Cohere2VisionConfig,
    Cohere2VisionForConditionalGeneration,
    Cohere2VisionProcessor,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3nAudioFeatureExtractor,
    Gemma3nConfig,
    Gemma3nForConditionalGeneration,
    Gemma3nProcessor,
    Gemma3Processor,
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4Processor,
    Idefics2Config,
    Idefics2ForConditionalGeneration,
    Idefics2Processor,
    Llama4Config,
    Llama4ForConditionalGeneration,
    Llama4Processor,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics2.image_processing_pil_idefics2 import Idefics2ImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from sweep.parts import ids, text_size, tokenizer, turns, vision_size
from sweep.registry import tiny_type

# The assistant is called the model, and the system's text stands at the head of the user's first turn.
_GEMMA = (
    "{{ bos_token }}{% set first = '' %}{% if messages[0].role == 'system' %}"
    "{% set first = messages[0].content[0].text + '\n\n' %}{% set messages = messages[1:] %}{% endif %}"
    "{% for turn in messages %}"
    "{{ '<start_of_turn>' + ('model' if turn.role == 'assistant' else turn.role) + '\n' }}"
    "{{ first if loop.first else '' }}"
    "{% for part in turn.content %}{% if part.type == 'image' %}IMAGE"
    "{% else %}{{ part.text | trim }}{% endif %}{% endfor %}{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


_WINDOWED = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
_GEMMA_IMAGE = {
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "image_token": "<image_soft_token>",
}


def gemma_tokenizer(**named: str) -> Any:
    turn = ("<start_of_turn>", "<end_of_turn>")
    return tokenizer(*turn, bos="<bos>", eos="<eos>", pad="<pad>", **named)


def _gemma_ends(found: Any, turn: str = "<end_of_turn>") -> list[int]:
    return [found.eos_token_id, found.convert_tokens_to_ids(turn)]


@tiny_type("gemma3", family="Gemma 3")
def gemma3() -> tuple[Any, Any]:
    found = gemma_tokenizer(**_GEMMA_IMAGE)
    template = _GEMMA.replace("IMAGE", "<start_of_image>")
    images = Gemma3ImageProcessorPil(
        size={"height": 16, "width": 16},
        do_pan_and_scan=True,
        pan_and_scan_min_crop_size=8,
        pan_and_scan_max_num_crops=2,
    )
    processor = Gemma3Processor(images, found, chat_template=template, image_seq_length=4)
    text = text_size(
        found,
        num_hidden_layers=4,
        head_dim=8,
        sliding_window=16,
        layer_types=_WINDOWED,
        query_pre_attn_scalar=8,
        eos_token_id=_gemma_ends(found),
    )
    config = Gemma3Config(
        text_config=text,
        vision_config={"model_type": "siglip_vision_model", **vision_size(vision_use_head=False)},
        mm_tokens_per_image=4,
        boi_token_index=found.boi_token_id,
        eoi_token_index=found.eoi_token_id,
        image_token_index=found.image_token_id,
        **ids(found),
    )
    return Gemma3ForConditionalGeneration(config), processor


_GEMMA3N = ("boi", "eoi", "image", "boa", "eoa", "audio")


@tiny_type("gemma3n", family="Gemma 3n", needs=("timm",))
def gemma3n() -> tuple[Any, Any]:
    # The ids of pictures, and then of sounds, follow those of the text: each kind has embeddings of its own.
    found = gemma_tokenizer(
        boi_token="<start_of_image>",
        boa_token="<start_of_audio>",
        eoi_token="<end_of_image>",
        image_token="<image_soft_token>",
        eoa_token="<end_of_audio>",
        audio_token="<audio_soft_token>",
    )
    images = SiglipImageProcessorPil(size={"height": 64, "width": 64}, do_normalize=False)
    processor = Gemma3nProcessor(
        Gemma3nAudioFeatureExtractor(),
        images,
        found,
        chat_template=_GEMMA.replace("IMAGE", "<image_soft_token>"),
        image_seq_length=4,
    )
    texts = len(found) - 4
    text = text_size(
        found,
        num_hidden_layers=6,
        head_dim=8,
        sliding_window=16,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2,
        num_kv_shared_layers=3,
        vocab_size_per_layer_input=texts,
        hidden_size_per_layer_input=8,
        altup_num_inputs=2,
        laurel_rank=4,
        activation_sparsity_pattern=[0.95, 0.95, 0.0, 0.0, 0.0, 0.0],
        eos_token_id=_gemma_ends(found),
    )
    config = Gemma3nConfig(
        text_config=text,
        vision_config={
            "architecture": "test_efficientnet",
            "hidden_size": 256,
            "vocab_size": 2,
            "vocab_offset": texts,
        },
        audio_config={
            "vocab_size": 2,
            "vocab_offset": texts + 2,
            "hidden_size": 16,
            "conf_num_attention_heads": 2,
            "conf_num_hidden_layers": 1,
            "sscp_conv_channel_size": [4, 4],
        },
        vision_soft_tokens_per_image=4,
        **{f"{name}_token_id": getattr(found, f"{name}_token_id") for name in _GEMMA3N},
        **ids(found),
    )
    return Gemma3nForConditionalGeneration(config), processor


_GEMMA4 = (
    "{{ bos_token }}{% for turn in messages %}"
    "{{ '<|turn>' + ('model' if turn.role == 'assistant' else turn.role) + '\n' }}"
    "{% for part in turn.content %}{% if part.type == 'image' %}<|image|>"
    "{% else %}{{ part.text | trim }}{% endif %}{% endfor %}{{ '<turn|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn>model\n' }}{% endif %}"
)
_GEMMA4_NAMED = {
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "image_token": "<|image|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
    "audio_token": "<|audio|>",
}


def _gemma4_tokenizer() -> Any:
    more = ("<|turn>", "<turn|>", "<|video|>")
    return tokenizer(*more, bos="<bos>", eos="<eos>", pad="<pad>", **_GEMMA4_NAMED)


def _gemma4_text(found: Any, **more: Any) -> dict[str, Any]:
    return text_size(
        found,
        num_hidden_layers=6,
        head_dim=8,
        global_head_dim=16,
        sliding_window=24,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2,
        eos_token_id=_gemma_ends(found, "<turn|>"),
        **more,
    )


def _gemma4_ids(found: Any) -> dict[str, int]:
    return {
        "boi_token_id": found.boi_token_id,
        "eoi_token_id": found.eoi_token_id,
        "image_token_id": found.image_token_id,
        "video_token_id": found.convert_tokens_to_ids("<|video|>"),
        "boa_token_id": found.boa_token_id,
        "eoa_token_index": found.eoa_token_id,
        "audio_token_id": found.audio_token_id,
        **ids(found),
    }


@tiny_type("gemma4", family="Gemma 4", needs=("torchvision",))
def gemma4() -> tuple[Any, Any]:
    from transformers import Gemma4VideoProcessor

    found = _gemma4_tokenizer()
    size = {"patch_size": 2, "pooling_kernel_size": 3, "max_soft_tokens": 70}
    processor = Gemma4Processor(
        Gemma4AudioFeatureExtractor(),
        Gemma4ImageProcessorPil(**size),
        found,
        Gemma4VideoProcessor(**size),
        chat_template=_GEMMA4,
        image_seq_length=70,
    )
    text = _gemma4_text(
        found,
        num_kv_shared_layers=3,
        use_double_wide_mlp=True,
        vocab_size_per_layer_input=len(found),
        hidden_size_per_layer_input=8,
        use_bidirectional_attention="vision",
    )
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "patch_size": 2,
        "pooling_kernel_size": 3,
        "position_embedding_size": 640,
    }
    config = Gemma4Config(text_config=text, vision_config=vision, audio_config=None, **_gemma4_ids(found))
    return Gemma4ForConditionalGeneration(config), processor


_COHERE_TURNS = (
    "{{ bos_token }}{% for turn in messages %}"
    "{{ '<|START_OF_TURN_TOKEN|><|' + ('CHATBOT' if turn.role == 'assistant' else turn.role | upper)"
    " + '_TOKEN|>' }}{% for part in turn.content %}{% if part.type == 'image' %}IMAGE"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{{ '<|END_OF_TURN_TOKEN|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"
)


def _cohere_tokenizer(*more: str, **named: str) -> Any:
    roles = (f"<|{role}_TOKEN|>" for role in ("START_OF_TURN", "SYSTEM", "USER", "CHATBOT"))
    return tokenizer(*roles, *more, bos="<BOS_TOKEN>", eos="<|END_OF_TURN_TOKEN|>", pad="<PAD>", **named)


def _cohere2(found: Any) -> dict[str, Any]:
    return text_size(
        found,
        model_type="cohere2",
        num_hidden_layers=4,
        sliding_window=24,
        layer_types=["sliding_attention"] * 3 + ["full_attention"],
        logit_scale=0.25,
    )


@tiny_type("aya_vision", family="Aya Vision")
def aya_vision() -> tuple[Any, Any]:
    found = _cohere_tokenizer(
        "<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>",
        "TILE", "TILE_GLOBAL",
    )  # fmt: skip
    images = GotOcr2ImageProcessorPil(size={"height": 16, "width": 16}, crop_to_patches=True, max_patches=3)
    processor = AyaVisionProcessor(
        images,
        found,
        patch_size=4,
        img_size=16,
        downsample_factor=2,
        chat_template=_COHERE_TURNS.replace("IMAGE", "<image>"),
    )
    config = AyaVisionConfig(
        text_config=_cohere2(found),
        vision_config={"model_type": "siglip_vision_model", **vision_size(vision_use_head=False)},
        image_token_index=found.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )
    return AyaVisionForConditionalGeneration(config), processor


@tiny_type("cohere2_vision", family="Command A Vision", needs=("torchvision",))
def cohere2_vision() -> tuple[Any, Any]:
    from transformers import Cohere2VisionImageProcessor

    found = _cohere_tokenizer(
        boi_token="<|START_OF_IMG|>",
        eoi_token="<|END_OF_IMG|>",
        image_token="<|IMG_PATCH|>",
        img_line_break_token="<|IMG_LINE_BREAK|>",
    )
    # A tile has as many tokens as a patch has pixels.
    images = Cohere2VisionImageProcessor(size={"height": 16, "width": 16}, patch_size=2, max_patches=3)
    template = _COHERE_TURNS.replace("IMAGE", "<|IMG_PATCH|>")
    processor = Cohere2VisionProcessor(images, found, chat_template=template)
    config = Cohere2VisionConfig(
        text_config=_cohere2(found),
        vision_config={"model_type": "siglip_vision_model", **vision_size(vision_use_head=False)},
        downsample_factor=2,
        image_token_id=found.image_token_id,
        alignment_intermediate_size=32,
    )
    return Cohere2VisionForConditionalGeneration(config), processor


@tiny_type("idefics2", family="Idefics2")
def idefics2() -> tuple[Any, Any]:
    found = tokenizer(
        "<fake_token_around_image>", "<image>", "<end_of_utterance>", bos="<s>", eos="</s>", pad="<unk>"
    )
    images = Idefics2ImageProcessorPil(
        size={"shortest_edge": 12, "longest_edge": 24}, do_image_splitting=True
    )
    template = (
        "{{ bos_token }}{% for turn in messages %}{{ turn.role | capitalize }}"
        "{{ ':' if turn.content[0].type == 'image' else ': ' }}"
        "{% for part in turn.content %}{% if part.type == 'image' %}<image>"
        "{% else %}{{ part.text }}{% endif %}{% endfor %}{{ '<end_of_utterance>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}Assistant:{% endif %}"
    )
    processor = Idefics2Processor(images, found, image_seq_len=4, chat_template=template)
    config = Idefics2Config(
        text_config=text_size(found, model_type="mistral", sliding_window=24, tie_word_embeddings=False),
        vision_config=vision_size(image_size=24),
        perceiver_config={
            "hidden_size": 32,
            "resampler_n_latents": 4,
            "resampler_depth": 2,
            "resampler_n_heads": 4,
            "resampler_head_dim": 8,
            "num_key_value_heads": 2,
        },
        image_token_id=found.convert_tokens_to_ids("<image>"),
    )
    return Idefics2ForConditionalGeneration(config), processor


@tiny_type("llama4", family="Llama 4", needs=("torchvision",))
def llama4() -> tuple[Any, Any]:
    from transformers import Llama4ImageProcessor

    found = tokenizer(
        "<|header_start|>", "<|header_end|>", "<|image|>", "<|image_start|>", "<|image_end|>", "<|patch|>",
        "<|tile_x_separator|>", "<|tile_y_separator|>",
        bos="<|begin_of_text|>", eos="<|eot|>", pad="<|finetune_right_pad|>",
    )  # fmt: skip
    template = turns(
        "<|header_start|>ROLE<|header_end|>\\n\\n", "<|image|>", "<|eot|>", begin="<|begin_of_text|>"
    )
    images = Llama4ImageProcessor(size={"height": 16, "width": 16}, max_patches=4)
    processor = Llama4Processor(images, found, patch_size=4, chat_template=template)
    text = text_size(
        found,
        num_hidden_layers=4,
        head_dim=8,
        intermediate_size_mlp=48,
        num_local_experts=4,
        interleave_moe_layer_step=2,
        no_rope_layers=[1, 1, 1, 0],
        attention_chunk_size=32,
        floor_scale=16,
        attn_scale=0.4,
        tie_word_embeddings=False,
    )
    vision = vision_size(vision_output_dim=32, projector_input_dim=32, projector_output_dim=32)
    config = Llama4Config(
        text_config=text,
        vision_config={**vision, "intermediate_size": 64},
        boi_token_index=found.convert_tokens_to_ids("<|image_start|>"),
        eoi_token_index=found.convert_tokens_to_ids("<|image_end|>"),
        image_token_index=found.convert_tokens_to_ids("<|patch|>"),
    )
    return Llama4ForConditionalGeneration(config), processor
