"""Types whose layers attend within a window, or within a chunk."""

from __future__ import annotations

from typing import Any

from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3Processor
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

from sweep.parts import ids, text_size, tokenizer, vision_size
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


def gemma_tokenizer() -> Any:
    return tokenizer(
        "<start_of_turn>",
        "<end_of_turn>",
        bos="<bos>",
        eos="<eos>",
        pad="<pad>",
        boi_token="<start_of_image>",
        eoi_token="<end_of_image>",
        image_token="<image_soft_token>",
    )


@tiny_type("gemma3", family="Gemma 3")
def gemma3() -> tuple[Any, Any]:
    found = gemma_tokenizer()
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
        layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
        query_pre_attn_scalar=8,
        eos_token_id=[found.eos_token_id, found.convert_tokens_to_ids("<end_of_turn>")],
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
