"""LLaVA and what was made from it."""

from __future__ import annotations

from typing import Any

import transformers as t

from sweep.parts import template, text_size, token_ids, tokenizer, vision_size
from sweep.registry import tiny_type

VICUNA = template(
    begin="<s>",
    system="{} ",
    user="USER: {} ",
    assistant="ASSISTANT: {}</s>",
    answer="ASSISTANT:",
    image="<image>\n",
    images_first=True,
)


def _clip() -> Any:
    return t.CLIPVisionConfig(**vision_size(projection_dim=16))


@tiny_type("llava", family="LLaVA 1.5")
def llava() -> tuple[Any, Any]:
    found = tokenizer(bos="<s>", eos="</s>", pad="<pad>", image_token="<image>")
    processor = t.LlavaProcessor(
        t.CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        found,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=VICUNA,
    )
    config = t.LlavaConfig(
        vision_config=_clip(),
        text_config=t.LlamaConfig(**text_size(found)),
        image_seq_length=16,
        **token_ids(found, image_token_index="<image>"),
    )
    return t.LlavaForConditionalGeneration(config), processor
