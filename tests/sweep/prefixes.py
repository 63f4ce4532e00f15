"""Types whose whole prompt attends to itself in both directions."""

from __future__ import annotations

from typing import Any

from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration, PaliGemmaProcessor
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from sweep.parts import ids, text_size, tokenizer, vision_size
from sweep.registry import tiny_type


@tiny_type(
    "paligemma",
    family="PaliGemma 2",
    without={"no picture": "its processor takes no text without a picture"},
)
def paligemma() -> tuple[Any, Any]:
    # The family has no turns: pictures come first, and the processor ends the text with a newline.
    template = (
        "{% for turn in messages %}{% for part in turn.content %}{% if part.type == 'image' %}<image>"
        "{% endif %}{% endfor %}{% endfor %}"
        "{% for turn in messages %}{{ '\\n' if not loop.first else '' }}{% for part in turn.content %}"
        "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
    )
    found = tokenizer(bos="<bos>", eos="<eos>", pad="<pad>", image_token="<image>")
    images = SiglipImageProcessorPil(size={"height": 16, "width": 16})
    images.image_seq_length = 16
    processor = PaliGemmaProcessor(images, found, chat_template=template)
    text = text_size(
        found,
        model_type="gemma2",
        num_hidden_layers=4,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=4096,
        vocab_size=len(found),
    )
    config = PaliGemmaConfig(
        text_config=text,
        vision_config={"model_type": "siglip_vision_model", **vision_size(vision_use_head=False)},
        projection_dim=32,
        hidden_size=32,
        image_token_index=found.image_token_id,
        vocab_size=len(found),
        **ids(found),
    )
    return PaliGemmaForConditionalGeneration(config), processor
