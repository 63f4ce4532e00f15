"""Tiny reward models with random weights: one that reads text alone, one that looks at pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny import CONTEXT, make_tokenizer
from transformers import (
    Gemma3Config,
    Gemma3ForSequenceClassification,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    LlamaConfig,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    PreTrainedTokenizerFast,
)

# Of text alone, as language models have it: a turn's content is a string.
TEMPLATE = (
    "{{ '<|begin|>' }}{% for message in messages %}{{ '<|' + message.role + '|>' + message.content }}"
    "{% if message.role == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
)
PICTURED = (
    "{{ '<|begin|>' }}{% for message in messages %}{{ '<|' + message.role + '|>' }}"
    "{% for part in message.content %}{% if part.type == 'image' %}<boi>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% if message.role == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
)


def save(model: Any, processor: Any, template: str, folder: Path) -> Path:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.normal_(std=0.8 if "embed" in name else 1.6 * parameter[0].numel() ** -0.5)
    processor.chat_template = template or None
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def text_reward(
    folder: Path, *, labels: int = 1, pad: bool = True, template: str = TEMPLATE, head_dim: int = 8
) -> Path:
    """A Llama with a scalar head, in which every token tells on the reward."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_dim,
        max_position_embeddings=CONTEXT,
        pad_token_id=tokenizer.pad_token_id if pad else None,
        num_labels=labels,
    )
    if not pad:
        tokenizer.pad_token = tokenizer.eos_token
    return save(LlamaForSequenceClassification(config), tokenizer, template, folder)


def step_reward(folder: Path, *, labels: int = 2, bos: bool = True) -> Path:
    """A Llama with a number for each token, as TRL's PRMTrainer saves it: without a chat template."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    if not bos:
        tokenizer.bos_token = None
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=CONTEXT,
        pad_token_id=tokenizer.pad_token_id,
        num_labels=labels,
    )
    return save(LlamaForTokenClassification(config), tokenizer, "", folder)


def pictured_reward(folder: Path) -> Path:
    """A Gemma 3 with a scalar head, whose pictures are four tokens."""
    torch.manual_seed(0)
    made = make_tokenizer("<boi>", "<image>", "<eoi>")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made.backend_tokenizer,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        extra_special_tokens={"boi_token": "<boi>", "image_token": "<image>", "eoi_token": "<eoi>"},
    )
    boi, image, eoi = tokenizer.convert_tokens_to_ids(["<boi>", "<image>", "<eoi>"])
    config = Gemma3Config(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": CONTEXT,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 4,
        },
        mm_tokens_per_image=4,
        boi_token_index=boi,
        eoi_token_index=eoi,
        image_token_index=image,
        num_labels=1,
    )
    pictures = Gemma3ImageProcessorPil(size={"height": 16, "width": 16})
    processor = Gemma3Processor(pictures, tokenizer, image_seq_length=4)
    return save(Gemma3ForSequenceClassification(config), processor, PICTURED, folder)
