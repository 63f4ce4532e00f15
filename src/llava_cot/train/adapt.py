"""Which weights of a model are trained.

Owns freezing and low-rank adapters. Knows architectures only by the names of their parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from llava_cot.errors import DataError
from llava_cot.train.recipe import Lora

# How the architectures of transformers call their image encoder and what joins it to the text model.
_PARTS = {
    "vision": ("vision_model", "vision_tower", "vision_encoder", "visual", "image_tower"),
    "projector": ("multi_modal_projector", "connector", "projector", "merger", "aligner"),
}


def freeze(model: Any, parts: Sequence[str]) -> None:
    """Train no parameter under these: "vision", "projector", or a name in the dotted path of the parameter.

    Raises DataError if there is no such part, or nothing is left.
    """
    for part in parts:
        names = _PARTS.get(part, (part,))
        found = False
        for path, parameter in model.named_parameters():
            if set(names) & set(path.split(".")) or any(path.startswith(f"{name}.") for name in names):
                parameter.requires_grad_(False)
                found = True
        if not found:
            raise DataError(f"freeze: {part!r} is no part of this model; name vision, projector or a module")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise DataError("freeze: nothing is left to train; name fewer parts")


def add_lora(model: Any, lora: Lora) -> Any:
    """The model with adapters, and nothing else that is trained. Raises DataError."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets or _text_linears(model),
    )
    try:
        return get_peft_model(model, config)
    except ValueError:
        raise DataError(f"lora.targets: no linear layer of this model is called {lora.targets}") from None


def _text_linears(model: Any) -> list[str]:
    """The full names of the linear layers of the text model, its output layer left out."""
    vision = {*_PARTS["vision"], *_PARTS["projector"]}
    output = model.get_output_embeddings()
    return [
        path
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not output and not vision & set(path.split("."))
    ]


def layer_classes(model: Any) -> list[str]:
    """The classes of the layers that hold most of the weights: what FSDP shards each by itself."""
    named: set[str] = set()
    for module in model.modules():
        named |= set(getattr(module, "_no_split_modules", None) or ())
    return sorted(named & {type(module).__name__ for module in model.modules()})
