"""Molmo 2: the tokens of pictures have embeddings of their own, behind the vocabulary."""

from __future__ import annotations

from typing import Any

import transformers as t

from sweep.parts import chatml, text_size, token_ids, tokenizer
from sweep.registry import tiny_type

_PICTURE = [
    f"<{name}>"
    for name in [
        "im_start",
        "im_end",
        "im_patch",
        "im_col",
        "low_res_im_start",
        "frame_start",
        "frame_end",
        "im_low",
    ]
]


@tiny_type("molmo2", family="Molmo 2", needs=("torchvision",))
def molmo2() -> tuple[Any, Any]:
    found = tokenizer(
        "<|im_start|>",
        *_PICTURE,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        image_token="<|image|>",
        video_token="<|video|>",
    )
    processor = t.Molmo2Processor(
        t.Molmo2ImageProcessor(
            size={"height": 16, "width": 16}, patch_size=4, max_crops=2, overlap_margins=[0, 0]
        ),
        t.Molmo2VideoProcessor(size={"height": 16, "width": 16}, patch_size=4),
        found,
        chat_template=chatml("<|image|>", images_first=True),
    )
    words = found.convert_tokens_to_ids(_PICTURE[0])
    config = t.Molmo2Config(
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "image_size": [16, 16],
            "patch_size": 4,
        },
        adapter_config={
            "vision_feature_layer": [2, 1],
            "hidden_size": 16,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "intermediate_size": 32,
            "text_hidden_size": 32,
        },
        text_config=text_size(
            found,
            vocab_size=words,
            additional_vocab_size=len(found) - words,
            head_dim=8,
            tie_word_embeddings=False,
        ),
        **token_ids(
            found,
            image_start_token_id="<im_start>",
            low_res_image_start_token_id="<low_res_im_start>",
            image_end_token_id="<im_end>",
            image_patch_id="<im_patch>",
            frame_start_token_id="<frame_start>",
            frame_end_token_id="<frame_end>",
        ),
    )
    return t.Molmo2ForConditionalGeneration(config), processor
