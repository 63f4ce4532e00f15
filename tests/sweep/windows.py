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
    CohereCompassConfig,
    CohereCompassForConditionalGeneration,
    CohereCompassProcessor,
    Dots3NoteConfig,
    Dots3NoteForConditionalGeneration,
    Exaone4_5_Config,
    Exaone4_5_ForConditionalGeneration,
    Exaone4_5_Processor,
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
    Gemma4UnifiedConfig,
    Gemma4UnifiedForConditionalGeneration,
    Idefics2Config,
    Idefics2ForConditionalGeneration,
    Idefics2Processor,
    Inkling2Config,
    Inkling2ForConditionalGeneration,
    Inkling2Processor,
    InklingConfig,
    InklingForConditionalGeneration,
    Llama4Config,
    Llama4ForConditionalGeneration,
    Llama4Processor,
    MuseGlimmerConfig,
    MuseGlimmerForConditionalGeneration,
    MuseSparkConfig,
    MuseSparkForConditionalGeneration,
    ShieldGemma2Config,
    ShieldGemma2ForImageClassification,
    ShieldGemma2Processor,
    Step3p7Config,
    Step3p7ForConditionalGeneration,
    Step3p7Processor,
    UnlimitedOcrConfig,
    UnlimitedOcrForConditionalGeneration,
    UnlimitedOcrProcessor,
    WhisperFeatureExtractor,
)
from transformers.models.cohere_compass.image_processing_pil_cohere_compass import (
    CohereCompassImageProcessorPil,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics2.image_processing_pil_idefics2 import Idefics2ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from sweep.parts import ids, text_size, tokenizer, turns, vision_size, without_video
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


@tiny_type("gemma4_unified", family="Gemma 4 (unified)", needs=("torchvision",))
def gemma4_unified() -> tuple[Any, Any]:
    from transformers import (
        Gemma4UnifiedAudioFeatureExtractor,
        Gemma4UnifiedImageProcessor,
        Gemma4UnifiedProcessor,
        Gemma4UnifiedVideoProcessor,
    )

    found = _gemma4_tokenizer()
    size = {"patch_size": 2, "pooling_kernel_size": 3, "max_soft_tokens": 70}
    processor = Gemma4UnifiedProcessor(
        Gemma4UnifiedAudioFeatureExtractor(),
        Gemma4UnifiedImageProcessor(**size),
        found,
        Gemma4UnifiedVideoProcessor(**size),
        chat_template=_GEMMA4,
        image_seq_length=70,
    )
    vision = {
        "patch_size": 2,
        "pooling_kernel_size": 3,
        "mm_embed_dim": 32,
        "mm_posemb_size": 80,
        "output_proj_dims": 32,
    }
    text = _gemma4_text(found, attention_k_eq_v=True, num_global_key_value_heads=1)
    config = Gemma4UnifiedConfig(
        text_config=text, vision_config=vision, audio_config=None, **_gemma4_ids(found)
    )
    return Gemma4UnifiedForConditionalGeneration(config), processor


_QWEN_NAMED = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}


@tiny_type("exaone4_5", family="EXAONE 4.5")
def exaone4_5() -> tuple[Any, Any]:
    found = tokenizer(
        "[|system|]", "[|user|]", "[|assistant|]", "<|vision_start|>", "<|vision_end|>", "<think>",
        "</think>", bos="[BOS]", eos="[|endofturn|]", pad="[PAD]", **_QWEN_NAMED,
    )  # fmt: skip
    template = turns(
        "[|ROLE|]\\n",
        "<|vision_start|><|image_pad|><|vision_end|>",
        "[|endofturn|]\\n",
        answer="[|assistant|]\\n<think>\\n",
    )
    images = Qwen2VLImageProcessorPil(min_pixels=14 * 14, max_pixels=8 * 14 * 14, patch_size=7, merge_size=2)
    processor = without_video(Exaone4_5_Processor)(images, found, chat_template=template)
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "num_key_value_heads": 1,
        "out_hidden_size": 32,
        "patch_size": 7,
        "window_size": 28,
        "fullatt_block_indexes": [1],
    }
    text = text_size(
        found,
        model_type="exaone4",
        num_hidden_layers=4,
        sliding_window=24,
        layer_types=["sliding_attention"] * 3 + ["full_attention"],
        tie_word_embeddings=False,
    )
    config = Exaone4_5_Config(
        text_config=text,
        vision_config=vision,
        image_token_id=found.image_token_id,
        video_token_id=found.video_token_id,
    )
    return Exaone4_5_ForConditionalGeneration(config), processor


@tiny_type("cohere_compass", family="Cohere Compass")
def cohere_compass() -> tuple[Any, Any]:
    found = _cohere_tokenizer("<|VISION_START|>", "<|VISION_END|>", "<|IMAGE_PAD|>", "<|VIDEO_PAD|>")
    images = CohereCompassImageProcessorPil(
        size={"shortest_edge": 16 * 16, "longest_edge": 8 * 16 * 16}, patch_size=8
    )
    template = _COHERE_TURNS.replace("IMAGE", "<|VISION_START|><|IMAGE_PAD|><|VISION_END|>")
    processor = without_video(CohereCompassProcessor)(images, found, chat_template=template)
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    text = _cohere2(found) | {
        "model_type": "cohere_compass_text",
        "rope_parameters": {"sliding_attention": rope, "full_attention": rope},
    }
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
    names = ("IMAGE_PAD", "VIDEO_PAD", "VISION_START", "VISION_END")
    image, video, start, end = (found.convert_tokens_to_ids(f"<|{name}|>") for name in names)
    config = CohereCompassConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    return CohereCompassForConditionalGeneration(config), processor


@tiny_type("step3p7", family="Step 3.7", needs=("torchvision",))
def step3p7() -> tuple[Any, Any]:
    from transformers import Step3p7ImageProcessor

    found = tokenizer(
        "<|im_start|>", "<im_patch>", "<im_start>", "<im_end>", "<patch_start>", "<patch_end>",
        "<patch_newline>", "<think>", bos="<|begin_of_sentence|>", eos="<|im_end|>", pad="<|pad|>",
    )  # fmt: skip
    images = Step3p7ImageProcessor(
        size={"height": 32, "width": 32}, patch_size=16, max_image_size=64, vision_patch_size=4
    )
    template = turns(
        "<|im_start|>ROLE\\n",
        "<im_patch>",
        "<|im_end|>\\n",
        begin="<|begin_of_sentence|>",
        answer="<|im_start|>assistant\\n<think>\\n",
    )
    processor = Step3p7Processor(images, found, chat_template=template)
    text = text_size(
        found,
        num_hidden_layers=4,
        head_dim=8,
        layer_types=["full_attention", "sliding_attention", "sliding_attention", "sliding_attention"],
        mlp_layer_types=["dense", "sparse", "sparse", "sparse"],
        sliding_window=24,
        num_sliding_attention_heads=6,
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        share_expert_dim=16,
        tie_word_embeddings=False,
    )
    vision = vision_size(image_size=32, mlp_ratio=2.0, max_position_embeddings=64)
    config = Step3p7Config(
        text_config=text, vision_config=vision, image_token_id=found.convert_tokens_to_ids("<im_patch>")
    )
    return Step3p7ForConditionalGeneration(config), processor


@tiny_type("dots3_note", family="Dots 3 Note", needs=("torchvision",))
def dots3_note() -> tuple[Any, Any]:
    from transformers import Dots3NoteProcessor, Qwen2VLVideoProcessor

    found = tokenizer(
        "<|system|>", "<|user|>", "<|assistant|>", "<|img|>", "<|endofimg|>", "<|imgpad|>", "<|video_pad|>",
        "<|audio_comp_pad|>", eos="<|endofassistant|>", pad="<|pad|>",
    )  # fmt: skip
    images = Qwen2VLImageProcessorPil(
        min_pixels=16 * 16, max_pixels=8 * 16 * 16, patch_size=8, merge_size=2, temporal_patch_size=1
    )
    template = turns("<|ROLE|>", "<|img|><|imgpad|><|endofimg|>", "<|endofassistant|>")
    processor = Dots3NoteProcessor(
        images, found, Qwen2VLVideoProcessor(), WhisperFeatureExtractor(), chat_template=template
    )
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16}
    text = text_size(
        found,
        **heads,
        **{f"swa_{name}": value for name, value in heads.items()},
        num_hidden_layers=4,
        layer_types=["full_attention", "sliding_attention", "full_attention", "sliding_attention"],
        sliding_window=24,
        head_dim=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
        swa_head_dim=16,
        swa_qk_rope_head_dim=8,
        swa_qk_nope_head_dim=8,
        swa_v_head_dim=8,
        moe_intermediate_size=16,
        shared_experts_intermediate_size=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        index_topk=32,
        index_head_dim=16,
        index_n_heads=16,  # of few, many tokens would have equal scores, and chance would choose
        tie_word_embeddings=False,
    )
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "moe_intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "patch_size": 8,
        "pyramid_num_routed": [-1, 4],
        "num_experts_per_tok": 2,
        "adapter_in_dim": 16,
        "adapter_out_dim": 32,
    }
    audio = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "feature_size": 16,
        "downsample_hidden_size": 4,
        "adapter_input_size": 16,
        "adapter_out_dim": 32,
    }
    config = Dots3NoteConfig(
        text_config={"model_type": "dots3_note_text", **text},
        vision_config=vision,
        audio_config=audio,
        image_token_id=found.convert_tokens_to_ids("<|imgpad|>"),
        video_token_id=found.convert_tokens_to_ids("<|video_pad|>"),
        audio_token_id=found.convert_tokens_to_ids("<|audio_comp_pad|>"),
    )
    return Dots3NoteForConditionalGeneration(config), processor


def _muse_tokenizer() -> Any:
    names = (
        "header_start", "header_end", "image_start", "image_end", "patch", "video", "vid_frame_separator",
        "vid_start", "vid_end", "audio", "soft_audio_start", "soft_audio_end",
    )  # fmt: skip
    special = (f"<|{name}|>" for name in names)
    return tokenizer(*special, bos="<|begin_of_text|>", eos="<|eot|>", pad="<|finetune_right_pad|>")


def _muse(found: Any, **more: Any) -> dict[str, Any]:
    text = text_size(
        found,
        num_hidden_layers=4,
        head_dim=8,
        sliding_window=24,
        tie_word_embeddings=False,
        output_multiplier=0.5,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        **more,
    )
    vision = {
        "patch_size": 8,
        "pos_emb_height": 4,
        "pos_emb_width": 4,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
    }
    return {
        "text_config": text,
        "vision_config": vision,
        "image_token_id": found.convert_tokens_to_ids("<|patch|>"),
        "video_token_id": found.convert_tokens_to_ids("<|video|>"),
        "out_hidden_size": 64,
        "projector_hidden_size": 32,
    }


def _muse_processor(processor: Any, found: Any, *more: Any) -> Any:
    from transformers import MuseGlimmerImageProcessor, MuseGlimmerVideoProcessor

    template = turns(
        "<|header_start|>ROLE<|header_end|>\\n\\n", "<|patch|>", "<|eot|>", begin="<|begin_of_text|>"
    )
    images = MuseGlimmerImageProcessor(patch_size=8, max_image_tokens=8)
    videos = MuseGlimmerVideoProcessor(patch_size=8)
    return processor(images, videos, found, *more, chat_template=template)


@tiny_type("muse_glimmer", family="Muse Glimmer", needs=("torchvision",))
def muse_glimmer() -> tuple[Any, Any]:
    from transformers import MuseGlimmerProcessor

    found = _muse_tokenizer()
    model = MuseGlimmerForConditionalGeneration(MuseGlimmerConfig(**_muse(found)))
    return model, _muse_processor(MuseGlimmerProcessor, found)


@tiny_type("muse_spark", family="Muse Spark", needs=("torchvision",))
def muse_spark() -> tuple[Any, Any]:
    from transformers import MuseSparkFeatureExtractor, MuseSparkProcessor

    found = _muse_tokenizer()
    described = _muse(
        found, moe_intermediate_size=16, moe_hidden_size=16, num_local_experts=4, num_experts_per_tok=2
    )
    audio = {"hidden_sizes": (4, 4, 4, 4), "depths": (1, 1, 1, 1), "out_hidden_size": 32}
    config = MuseSparkConfig(
        **described, audio_config=audio, audio_token_id=found.convert_tokens_to_ids("<|audio|>")
    )
    processor = _muse_processor(MuseSparkProcessor, found, MuseSparkFeatureExtractor())
    return MuseSparkForConditionalGeneration(config), processor


def _inkling_tokenizer() -> Any:
    more = ("<|content_image|>", "<|content_audio_input|>", "<|message_end|>", "<|message_start|>")
    return tokenizer(
        *more,
        bos="<|begin|>",
        eos="<|end_of_turn|>",
        pad="<|pad|>",
        image_token="<|unused_200054|>",
        audio_token="<|unused_200053|>",
    )


_INKLING = turns(
    "<|message_start|>ROLE\\n", "<|content_image|><|unused_200054|>", "<|end_of_turn|>", begin="<|begin|>"
)


def _inkling(found: Any, **more: Any) -> dict[str, Any]:
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    return text_size(
        found,
        **heads,
        **{f"swa_{name}": value for name, value in heads.items()},
        num_hidden_layers=4,
        layer_types=["hybrid_sliding", "hybrid_sliding", "hybrid", "hybrid_sliding"],
        sliding_window_size=24,
        d_rel=4,
        rel_extent=32,
        log_scaling_n_floor=16,
        moe_intermediate_size=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        **more,
    )


@tiny_type("inkling2", family="Inkling 2", needs=("torchvision",))
def inkling2() -> tuple[Any, Any]:
    from transformers import Inkling2ImageProcessor

    found = _inkling_tokenizer()
    processor = Inkling2Processor(
        Inkling2ImageProcessor(size={"height": 16, "width": 16}), found, chat_template=_INKLING
    )
    text = _inkling(found, unpadded_vocab_size=len(found), n_layers_per_attn_res_block=2)
    del text["intermediate_size"], text["tie_word_embeddings"]
    vision = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "patch_size": 8,
        "mlp_ratio": 2.0,
        "posemb_grid_size": 8,
        "projection_hidden_dim": 32,
        "text_hidden_size": 32,
    }
    config = Inkling2Config(text_config=text, vision_config=vision, image_token_id=found.image_token_id)
    return Inkling2ForConditionalGeneration(config), processor


@tiny_type("inkling_mm_model", family="Inkling", needs=("torchvision",))
def inkling() -> tuple[Any, Any]:
    from transformers import InklingFeatureExtractor, InklingImageProcessor, InklingProcessor

    found = _inkling_tokenizer()
    images = InklingImageProcessor(size={"height": 20, "width": 20})
    processor = InklingProcessor(InklingFeatureExtractor(), images, found, chat_template=_INKLING)
    text = _inkling(
        found,
        unpadded_vocab_size=len(found),
        mlp_layer_types=["dense", "sparse", "sparse", "sparse"],
        n_shared_experts=1,
        logits_mup_width_multiplier=2.0,
    )
    vision = {"patch_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = InklingConfig(
        text_config=text,
        vision_config=vision,
        audio_config={"n_mel_bins": 8, "mel_vocab_size": 16},
        image_token_id=found.image_token_id,
        audio_token_id=found.audio_token_id,
        image_bos_token_id=found.convert_tokens_to_ids("<|content_image|>"),
        audio_bos_token_id=found.convert_tokens_to_ids("<|content_audio_input|>"),
    )
    return InklingForConditionalGeneration(config), processor


@tiny_type("shieldgemma2", family="ShieldGemma 2", refused=True)
def shieldgemma2() -> tuple[Any, Any]:
    made, used = gemma3()
    names = (
        "text_config", "vision_config", "mm_tokens_per_image", "boi_token_index", "eoi_token_index",
        "image_token_index", "bos_token_id", "eos_token_id", "pad_token_id",
    )  # fmt: skip
    config = ShieldGemma2Config(**{name: getattr(made.config, name) for name in names})
    images = Gemma3ImageProcessorPil(size={"height": 16, "width": 16})
    said = used.chat_template
    processor = ShieldGemma2Processor(images, used.tokenizer, chat_template=said, image_seq_length=4)
    return ShieldGemma2ForImageClassification(config), processor


@tiny_type("unlimited_ocr", family="Unlimited-OCR", needs=("torchvision",), refused=True)
def unlimited_ocr() -> tuple[Any, Any]:
    from transformers import UnlimitedOcrImageProcessor

    found = tokenizer("<PAGE>", bos="<bos>", eos="<eos>", pad="<pad>", image_token="<image>")
    images = UnlimitedOcrImageProcessor(size={"height": 32, "width": 32}, tile_size=32, max_patches=3)
    said = turns("", "<image>", "\\n", begin="<bos>", answer="\\n")
    processor = UnlimitedOcrProcessor(images, found, chat_template=said, patch_size=4, downsample_ratio=4)
    text = text_size(
        found,
        num_key_value_heads=4,
        sliding_window=24,
        n_routed_experts=4,
        n_shared_experts=1,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        tie_word_embeddings=False,
    )
    sam = {
        "hidden_size": 16,
        "output_channels": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 4,
        "window_size": 4,
        "global_attn_indexes": [1],
        "mlp_dim": 32,
        "downsample_channels": [8, 16],
    }
    vision = {"sam_config": sam, "encoder_config": vision_size(image_size=8)}
    config = UnlimitedOcrConfig(text_config=text, vision_config=vision, image_token_id=found.image_token_id)
    return UnlimitedOcrForConditionalGeneration(config), processor
