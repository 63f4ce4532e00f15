"""Opens the text model's eyes: starts the projector from what the vision heads can read.

The first dimensions of the projected picture are the heads' standardized logits (place, color, shape, size,
material), the rest are the encoder's principal components, whitened. From a random projector all keys of a
picture look alike after their norm, and a model of this size learned nothing from pictures in 30,000 answers.
"""

from __future__ import annotations

import random
from typing import Any, cast

import torch
from torch import nn
from transformers import MllamaForConditionalGeneration

from research.mini.eyes import WIDTHS, Eyes, patches
from research.mini.pictures import Pool


@torch.no_grad()
def ground(model: MllamaForConditionalGeneration, eyes: Eyes, pool: Pool, pictures: int = 512) -> None:
    """Set the projector, and draw the cross-attention's projections anew."""
    inner: Any = model.model
    indices = random.Random(0).sample(range(len(pool)), min(pictures, len(pool)))
    features = torch.cat(
        [
            patches(inner.vision_model(**pool.batch(indices[i : i + 64])).last_hidden_state).flatten(0, 1)
            for i in range(0, len(indices), 64)
        ]
    )
    mean = features.mean(0)
    readers = cast(list[nn.Linear], list(eyes.heads.values()))
    read = torch.cat([head.weight for head in readers])
    weight = read / ((features - mean) @ read.T).std(0)[:, None]
    rest = inner.multi_modal_projector.out_features - len(weight)
    _, scale, directions = torch.linalg.svd(features - mean, full_matrices=False)
    components = directions[:rest] / (scale[:rest, None] / len(features) ** 0.5 + 0.05)
    weight = torch.cat([weight, 0.5 * components])
    inner.multi_modal_projector.weight.copy_(weight)
    inner.multi_modal_projector.bias.copy_(-weight @ mean)
    for layer in inner.language_model.layers:
        if hasattr(layer, "cross_attn"):
            layer.cross_attn_attn_gate.fill_(1.0)
            layer.cross_attn_mlp_gate.fill_(1.0)
            _aim(layer.cross_attn, sum(WIDTHS.values()))


def _aim(attention: Any, readable: int) -> None:
    """Half of the heads look for places alone, and read attributes alone, from the start."""
    for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
        nn.init.normal_(getattr(attention, part).weight, std=0.09)
    rows = attention.num_key_value_heads // 2 * attention.head_dim
    places = WIDTHS["place"]
    for projection, first, last in ((attention.k_proj, 0, places), (attention.v_proj, places, readable)):
        aimed = torch.zeros_like(projection.weight[:rows])
        nn.init.normal_(aimed[:, first:last], std=(last - first) ** -0.5)
        projection.weight[:rows] = aimed
