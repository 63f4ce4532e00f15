"""Heads on the picture encoder: at the patch of an object's middle they name it.

Its place from left to right, colour, shape, size and material; everywhere else the place is "none". Dense
labels teach an encoder of this size in minutes what captions alone would take hours to. In the later steps
the heads go on as a small extra loss. They are not shipped.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llava_cot.scenes.world import COLORS, MATERIALS, MAX_OBJECTS, SHAPES, SIZES, Scene
from research.mini.build import PATCH
from research.mini.pictures import IMAGE_SIZE

GRID = IMAGE_SIZE // PATCH
WIDTHS = {
    "place": MAX_OBJECTS + 1,
    "color": len(COLORS),
    "shape": len(SHAPES),
    "size": len(SIZES),
    "material": len(MATERIALS),
}


class Eyes(nn.Module):
    """Linear heads on the encoder's output [B, 64, 256]."""

    def __init__(self, width: int = 256):
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(width, out) for name, out in WIDTHS.items()})

    def loss(self, features: Tensor, scenes: Sequence[Scene]) -> tuple[Tensor, dict[str, float]]:
        """Mean cross-entropy of all heads, and the accuracy of each at the objects' patches."""
        rows, patches, labels = [], [], []
        place = torch.zeros(features.shape[:2], dtype=torch.long)
        for row, scene in enumerate(scenes):
            for rank, item in enumerate(scene.objects):
                patch = anchor(item.x, item.y - 0.6 * item.radius)
                place[row, patch] = rank + 1
                rows.append(row)
                patches.append(patch)
                labels.append(
                    (
                        COLORS.index(item.color),
                        SHAPES.index(item.shape),
                        SIZES.index(item.size),
                        MATERIALS.index(item.material),
                    )
                )
        at = features[rows, patches]
        target = torch.tensor(labels)
        logits = self.heads["place"](features)
        loss = 2 * F.cross_entropy(logits.flatten(0, 1), place.flatten())
        right = {"place": (logits.argmax(-1) == place)[rows, patches].float().mean().item()}
        for column, name in enumerate(("color", "shape", "size", "material")):
            guess = self.heads[name](at)
            loss = loss + 0.5 * F.cross_entropy(guess, target[:, column])
            right[name] = (guess.argmax(-1) == target[:, column]).float().mean().item()
        return loss, right


def anchor(x: float, y: float) -> int:
    """The patch at a point, shares of the picture's width and height."""
    return min(GRID - 1, max(0, int(y * GRID))) * GRID + min(GRID - 1, max(0, int(x * GRID)))


def patches(output: Tensor) -> Tensor:
    """The encoder's output [B, 1, 1, 65, D] without its class token: [B, 64, D]."""
    return output[:, 0, 0, 1:]
