"""Mllama: layers that attend to the picture, which no text model shares."""

from __future__ import annotations

from typing import Any

import transformers as t
from transformers.models.mllama.configuration_mllama import MllamaTextConfig, MllamaVisionConfig

from sweep.parts import template, text_size, token_ids, tokenizer
from sweep.registry import tiny_type


@tiny_type("mllama", family="Llama 3.2 Vision")
def mllama() -> tuple[Any, Any]:
    found = tokenizer(
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|image|>",
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        pad="<|finetune_right_pad_id|>",
    )
    image = token_ids(found, image="<|image|>")["image"]
    turn = "<|start_header_id|>{}<|end_header_id|>\n\n{{}}<|eot_id|>".format
    processor = t.MllamaProcessor(
        t.MllamaImageProcessorPil(size={"height": 16, "width": 16}, max_image_tiles=4),
        found,
        chat_template=template(
            begin="<|begin_of_text|>",
            system=turn("system"),
            user=turn("user"),
            assistant=turn("assistant"),
            answer="<|start_header_id|>assistant<|end_header_id|>\n\n",
            image="<|image|>",
        ),
    )
    return mllama_network(image, text_size(found, vocab_size=image, num_hidden_layers=4)), processor


def mllama_network(image: int, text: dict[str, Any]) -> Any:
    """A network whose second and fourth layer attend to the picture; `image` is the id of its token."""
    vision = MllamaVisionConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_global_layers=1,
        attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
        max_num_tiles=4,
        intermediate_layers_indices=[0],
        vision_output_dim=32,
    )
    layers = MllamaTextConfig(**text, cross_attention_layers=[1, 3])
    return t.MllamaForConditionalGeneration(
        t.MllamaConfig(vision_config=vision, text_config=layers, image_token_index=image)
    )
