"""Stages 2 and 3 of mini: staged answers, duels and checks, learned together.

    python scripts/mini/sft.py --run RUN --name answers --start seeing
    python scripts/mini/sft.py --run RUN --name judge --start answers --steps 1800 --duels RUN/duels.jsonl

Saves RUN/NAME.pt every 250 steps; the same command again goes on from there. A batch is of one kind, drawn
by `--shares` (answers, duels, checks). Every picture of a batch is encoded once and asked about twice.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from build import build_model, build_processor
from common import Pool, learning_rate, load, save
from ground import ground
from muon import Muon
from rows import IGNORE, Rows
from torch import Tensor, nn
from vision import Heads, patches

import examples
from llava_cot.scenes.questions import ask_about
from llava_cot.scenes.world import Scene

KINDS = ("answers", "duels", "checks", "captions")
PER_PICTURE = 2
CHOICE_WEIGHT = 2.0  # of the token that decides a duel, against 1 of any other


def optimizers(model: nn.Module, heads: nn.Module, rate: float, muon: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings, norms, gates and heads."""
    matrices, rest, names = [], list(heads.parameters()), ("embed", "lm_head", "embedding", "patch")
    for name, parameter in model.named_parameters():
        inner = parameter.ndim == 2 and not any(part in name for part in names)
        (matrices if inner else rest).append(parameter)
    return [
        Muon(matrices, muon),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def made_up(pool: Pool, kind: str, rng: random.Random, size: int) -> tuple[list[int], list[examples.Example]]:
    """Pictures, and PER_PICTURE examples of one kind for each."""
    indices: list[int] = []
    batch: list[examples.Example] = []
    count = rng.randint(3, 6)  # scenes of one size in a batch: less padding
    each = 1 if kind == "captions" else PER_PICTURE
    while len(indices) < size // each:
        index = rng.randrange(1000, len(pool))
        scene = pool.scene(index)
        if len(scene.objects) != count:
            continue
        drawn = [_example(scene, kind, rng) for _ in range(each)]
        indices.append(index)
        batch += drawn
    return indices, batch


def _example(scene: Scene, kind: str, rng: random.Random) -> examples.Example:
    while True:
        question = ask_about(scene, rng)
        if kind == "answers":
            return examples.answer(scene, question, rng)
        if kind == "captions":
            return examples.description(scene)
        made = examples.made_up_duel if kind == "duels" else examples.check
        example = made(scene, question, rng)
        if example is not None:
            return example


class Sampled:
    """Duels and checks of the model's own samples (`duels.py`), endlessly, a batch of like length."""

    def __init__(self, path: Path, rng: random.Random, size: int):
        self.by_kind: dict[str, list[dict]] = {"duels": [], "checks": []}
        for line in path.read_text().splitlines():
            item = json.loads(line)
            if item["kind"] in self.by_kind:
                self.by_kind[item["kind"]].append(item)
        self.rng, self.size = rng, size
        self.queues: dict[str, Iterator[list[dict]]] = {kind: self._endless(kind) for kind in self.by_kind}

    def _endless(self, kind: str) -> Iterator[list[dict]]:
        items = self.by_kind[kind]
        while True:
            self.rng.shuffle(items)
            for start in range(0, len(items) - self.size * 16 + 1, self.size * 16):
                block = sorted(items[start : start + self.size * 16], key=lambda item: len(item["prompt"]))
                batches = [block[i : i + self.size] for i in range(0, len(block), self.size)]
                self.rng.shuffle(batches)
                yield from batches

    def batch(self, kind: str) -> tuple[list[int], list[examples.Example]]:
        chosen = next(self.queues[kind])
        made = []
        for item in chosen:
            direct = kind == "duels" and self.rng.random() < 0.25
            reply = item["reply"]
            if direct:
                reply = reply[reply.index(examples.CHOICE) :]
            made.append(examples.Example(item["prompt"], reply, kind == "duels", direct))
        return [item["picture"] for item in chosen], made


def forward_loss(
    model: nn.Module, rows: Rows, pool: Pool, indices: list[int], batch: list[examples.Example], heads: Heads
) -> tuple[Tensor, float]:
    """Weighted mean cross-entropy of the learned tokens (plus the heads' loss), and their accuracy."""
    ids, labels, deciding = rows.batch(batch)
    inner = model.model
    extra: dict[str, Tensor] = {}
    aside = torch.zeros(())
    if batch[0].picture:
        output = inner.vision_model(**pool.batch(indices)).last_hidden_state
        aside = 0.05 * heads.loss(patches(output), [pool.scene(i) for i in indices])[0]
        states = inner.multi_modal_projector(output).reshape(len(indices), output.shape[-2], -1)
        mask = torch.ones(*ids.shape, 1, 1, dtype=torch.long)
        mask[:, : len(rows.start)] = 0
        extra = {
            "cross_attention_states": states.repeat_interleave(len(batch) // len(indices), 0),
            "cross_attention_mask": mask,
        }
    hidden = inner(input_ids=ids, use_cache=False, **extra).last_hidden_state
    learned = labels != IGNORE
    target = labels[learned]
    logits = model.lm_head(hidden[learned])
    decisive = deciding[learned]
    weight = 1 + (CHOICE_WEIGHT - 1) * decisive.float()
    loss = (F.cross_entropy(logits, target, reduction="none") * weight).sum() / weight.sum()
    guess = logits.argmax(-1) == target
    shown = guess[decisive] if decisive.any() else guess
    return loss + aside, shown.float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--start", help="the earlier stage to start from; else the vision stage alone")
    parser.add_argument("--ground", action="store_true", help="start the projector from the vision heads")
    parser.add_argument("--steps", type=int, default=2300)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--muon", type=float, default=0.008)
    parser.add_argument(
        "--shares",
        type=float,
        nargs=4,
        default=(0.5, 0.25, 0.25, 0.0),
        metavar=("ANSWERS", "DUELS", "CHECKS", "CAPTIONS"),
    )
    parser.add_argument(
        "--duels", type=Path, help="sampled duels; half of the duels are then made up, half sampled"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stop", type=int, help="end here, with the schedule of --steps")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    pool, processor = Pool(args.run), build_processor()
    model, heads, rows = build_model(processor), Heads(), Rows(processor.tokenizer)
    path, step = args.run / f"{args.name}.pt", 0
    optimize = optimizers(model, heads, args.rate, args.muon)
    if path.exists():
        state = load(path)
        for optimizer, kept in zip(optimize, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        step = state["step"]
    else:
        state = torch.load(args.run / f"{args.start or 'vision'}.pt", weights_only=False)
    target = model if "optimizers" in state else model.model.vision_model
    target.load_state_dict(state["model"])
    heads.load_state_dict(state["heads"])
    if args.ground and step == 0:
        ground(model, heads, pool)
    rng = random.Random(f"{args.name}/{args.seed}/{step}")
    sampled = Sampled(args.duels, rng, args.batch) if args.duels else None
    began, seen = time.time(), dict.fromkeys(KINDS, (0.0, 0.0))
    while step < (args.stop or args.steps):
        kind = rng.choices(KINDS, args.shares)[0]
        if sampled and kind in sampled.by_kind and rng.random() < 0.6:
            indices, batch = sampled.batch(kind)
        else:
            indices, batch = made_up(pool, kind, rng, args.batch)
        loss, right = forward_loss(model, rows, pool, indices, batch, heads)
        share = learning_rate(step, args.steps, 1.0)
        for optimizer, peak in zip(optimize, (args.muon, args.rate), strict=True):
            optimizer.param_groups[0]["lr"] = share * peak
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimize:
            optimizer.step()
        step += 1
        old = seen[kind]
        seen[kind] = (
            (0.95 * old[0] + 0.05 * loss.item(), 0.95 * old[1] + 0.05 * right)
            if old[0]
            else (loss.item(), right)
        )
        if step % 50 == 0:
            told = " ".join(f"{name} {value[0]:.3f}/{value[1]:.3f}" for name, value in seen.items())
            print(f"{step} {time.time() - began:.0f}s {told}", flush=True)
        if step % 250 == 0 or step == (args.stop or args.steps):
            save(
                path,
                model=model.state_dict(),
                heads=heads.state_dict(),
                optimizers=[optimizer.state_dict() for optimizer in optimize],
                step=step,
            )


if __name__ == "__main__":
    main()
