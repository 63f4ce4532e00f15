"""Heads that help mini-base to learn, and are not shipped: on its picture encoder and on a text layer.

The vision heads name the object at the patch of its middle: place from left to right, color, shape, size and
material; at all other patches the place is "none". Labels for each patch teach an encoder of this size in
minutes what captions alone would take hours to. In the later steps they stay as a small extra loss. The
question heads say what a description in a question finds in the picture: from the answer's one token alone, a
model of this size did not learn to look.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llava_cot.scenes.filters import VALUES
from llava_cot.scenes.world import COLORS, MATERIALS, MAX_OBJECTS, SHAPES, SIZES, Scene
from research.mini.model import PATCH
from research.mini.pictures import IMAGE_SIZE
from research.mini.rows import Row

GRID = IMAGE_SIZE // PATCH
WIDTHS = {
    "place": MAX_OBJECTS + 1,
    "color": len(COLORS),
    "shape": len(SHAPES),
    "size": len(SIZES),
    "material": len(MATERIALS),
}


class VisionHeads(nn.Module):
    """Linear heads on the picture encoder's output [B, 64, 256]."""

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


# Whose outputs the question heads read: the last layer that looks at the picture, and, for questions about a
# text, the one before it (without a picture, the layers that look at one are not run).
LOOKING_LAYER, READING_LAYER = 4, 3
# Whose output the option head reads: one more layer can carry the letter to the answer.
DECIDING_LAYER = 5


class QuestionHeads(nn.Module):
    """Heads at the end of a description in a question, on a text layer's output [B, T, width].

    They name the places of the objects that match, and the attributes of the match if there is just one.
    """

    def __init__(self, width: int = 128):
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(width, out) for name, out in WIDTHS.items()})
        self.count = nn.Linear(width, MAX_OBJECTS + 1)

    def loss(
        self, states: Tensor, rows: Sequence[Row], scenes: Sequence[Scene]
    ) -> tuple[Tensor, dict[str, float]]:
        """Mean loss of all heads, and the accuracy of the counts and of the attributes."""
        found = [
            (number, token, what.places(scenes[number].objects), scenes[number].objects)
            for number, row in enumerate(rows)
            for what, token in row.described
        ]
        if not found:
            return states.sum() * 0, {}
        at = states[[number for number, *_ in found], [token for _, token, *_ in found]]
        places = torch.zeros(len(found), WIDTHS["place"])
        for i, (_, _, matching, _) in enumerate(found):
            places[i, matching] = 1
        counts = torch.tensor([len(matching) for _, _, matching, _ in found])
        guessed = self.count(at)
        loss = F.binary_cross_entropy_with_logits(self.heads["place"](at), places) * 4
        loss = loss + F.cross_entropy(guessed, counts)
        placed = ((self.heads["place"](at) > 0) == (places > 0.5)).all(1)
        metrics = {
            "count": (guessed.argmax(-1) == counts).float().mean().item(),
            "places": placed.float().mean().item(),
        }
        single = [i for i, (_, _, matching, _) in enumerate(found) if len(matching) == 1]
        if single:
            objects = [found[i][3][found[i][2][0]] for i in single]
            right = []
            for name, values in VALUES.items():
                target = torch.tensor([values.index(getattr(item, name)) for item in objects])
                guess = self.heads[name](at[single])
                loss = loss + 0.5 * F.cross_entropy(guess, target)
                right.append((guess.argmax(-1) == target).float().mean().item())
            metrics["attributes"] = sum(right) / len(right)
        return loss, metrics


class OptionHead(nn.Module):
    """A head at the end of each option of a question, on a text layer's output: is it the right one?"""

    def __init__(self, width: int = 128):
        super().__init__()
        self.right = nn.Linear(width, 1)

    def loss(self, states: Tensor, rows: Sequence[Row]) -> tuple[Tensor, dict[str, float]]:
        """Mean cross-entropy of the choice among a row's options, and its accuracy."""
        losses, hits = [], 0
        for number, row in enumerate(rows):
            if row.options:
                logits = self.right(states[number, [token for _, token in row.options]])[:, 0]
                target = torch.tensor([right for right, _ in row.options].index(True))
                losses.append(F.cross_entropy(logits, target))
                hits += int(logits.argmax() == target)
        if not losses:
            return states.sum() * 0, {}
        return torch.stack(losses).mean(), {"options": hits / len(losses)}


class LayerOutput:
    """Records the output of a layer of the text model in each forward pass."""

    def __init__(self, layer: nn.Module):
        self.states: Tensor
        layer.register_forward_hook(self._record)

    def _record(self, module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        self.states = output if isinstance(output, Tensor) else output[0]
