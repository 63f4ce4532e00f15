"""Stage 1 of mini: the image encoder learns where objects are and what they are, patch by patch.

    python scripts/mini/vision.py --run RUN [--start src/llava_cot/mini]

At the patch that holds an object's middle, linear heads on the encoder's output name its place from left to
right, colour, shape, size and material; everywhere else the place is "none". Dense labels teach an encoder of
this size in minutes what captions alone would take hours to. The heads are kept for the later stages, where
they go on as a small extra loss, and are not shipped. Saves RUN/vision.pt every 200 steps; started again, it
goes on.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from build import PATCH, build_model, build_processor
from common import Pool, groups, learning_rate, load, save
from pictures import IMAGE_SIZE
from torch import Tensor, nn
from transformers import MllamaForConditionalGeneration

from llava_cot.scenes.world import COLORS, MATERIALS, MAX_OBJECTS, SHAPES, SIZES, Scene

GRID = IMAGE_SIZE // PATCH
WIDTHS = {
    "place": MAX_OBJECTS + 1,
    "color": len(COLORS),
    "shape": len(SHAPES),
    "size": len(SIZES),
    "material": len(MATERIALS),
}


class Heads(nn.Module):
    """Linear heads on the encoder's output [B, 64, 256]."""

    def __init__(self, width: int = 256):
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(width, out) for name, out in WIDTHS.items()})

    def loss(self, features: Tensor, scenes: list[Scene]) -> tuple[Tensor, dict[str, float]]:
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
    return min(GRID - 1, max(0, int(y * GRID))) * GRID + min(GRID - 1, max(0, int(x * GRID)))


def patches(output: Tensor) -> Tensor:
    """The encoder's output [B, 1, 1, 65, D] without its class token: [B, 64, D]."""
    return output[:, 0, 0, 1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="the folder of a checkpoint to train further")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    random.seed(0)
    pool = Pool(args.run)
    model = build_model(build_processor()).model.vision_model
    if args.start:
        model = MllamaForConditionalGeneration.from_pretrained(args.start).model.vision_model
    heads = Heads()
    optimizer = torch.optim.AdamW(
        groups(nn.ModuleList([model, heads]), 0.05), lr=args.rate, betas=(0.9, 0.98)
    )
    start = 0
    path = args.run / "vision.pt"
    if path.exists():
        state = load(path)
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    began, seen = time.time(), dict.fromkeys(WIDTHS, 0.0)
    for step in range(start, args.steps):
        indices = random.sample(range(1000, len(pool)), args.batch)
        loss, right = heads.loss(
            patches(model(**pool.batch(indices)).last_hidden_state), [pool.scene(i) for i in indices]
        )
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.rate)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen = {name: 0.95 * seen[name] + 0.05 * right[name] for name in seen}
        if step % 50 == 49:
            told = " ".join(f"{name} {value:.3f}" for name, value in seen.items())
            print(f"{step + 1} {time.time() - began:.0f}s loss {loss.item():.3f} {told}", flush=True)
        if step % 200 == 199 or step == args.steps - 1:
            save(
                path,
                model=model.state_dict(),
                heads=heads.state_dict(),
                optimizer=optimizer.state_dict(),
                step=step + 1,
            )


if __name__ == "__main__":
    main()
