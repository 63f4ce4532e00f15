"""What the training scripts of mini share: the picture pool, batches of pixels, the schedule, checkpoints."""

from __future__ import annotations

import math
import os
import random
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pictures import SEED
from torch import Tensor

from llava_cot.scenes.world import Scene, draw_scene, scene_rng

MEAN, STD = 0.5, 0.25  # of the image processor
_Model = TypeVar("_Model", bound=torch.nn.Module)


class Pool:
    """The rendered training scenes: pixels from disk, scenes from their seeds."""

    def __init__(self, run: Path):
        self.pixels: NDArray[np.uint8] = np.load(run / "pictures.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self.pixels)

    def scene(self, index: int) -> Scene:
        return draw_scene(scene_rng("train", SEED, index))

    def batch(self, indices: list[int]) -> dict[str, Tensor]:
        """The vision model's inputs: pixel_values [B, 1, 1, 3, 96, 96] and the constants beside it."""
        raw = torch.from_numpy(np.stack([self.pixels[i] for i in indices]))
        return vision_inputs(raw)


def vision_inputs(raw: Tensor) -> dict[str, Tensor]:
    """From uint8 [B, 96, 96, 3]."""
    pixels = (raw.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
    ones = torch.ones(len(raw), 1, dtype=torch.long)
    return {
        "pixel_values": pixels[:, None, None],
        "aspect_ratio_ids": ones,
        "aspect_ratio_mask": ones[:, :, None],
    }


def learning_rate(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))


def groups(model: torch.nn.Module, decay: float) -> list[dict[str, object]]:
    """Parameters with weight decay (matrices) and without (the rest)."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    rest = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    return [{"params": matrices, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]


def save(path: Path, **state: object) -> None:
    """Whole or not at all."""
    part = path.with_suffix(".part")
    torch.save({**state, "python_rng": random.getstate()}, part)
    os.replace(part, path)


def load(path: Path) -> dict:
    state = torch.load(path, weights_only=False)
    random.setstate(state["python_rng"])
    return state


def load_weights(model: _Model, path: Path) -> _Model:
    model.load_state_dict(torch.load(path, weights_only=False)["model"])
    return model
