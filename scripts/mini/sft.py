"""The text model's stages of mini's training (see `train.sh`): captions, answers, duels, checks, endings.

    python scripts/mini/sft.py --run RUN --name answers --start seeing
    python scripts/mini/sft.py --run RUN --name judge --start answers --steps 2400 --duels RUN/duels.jsonl

Saves RUN/NAME.pt every 250 steps; the same command again goes on from there. A batch is of one kind, drawn
by `--shares`.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from aids import Aids, Last, Watch
from build import build_model, build_processor
from common import Pool, learning_rate, load, save
from ground import ground
from muon import Muon
from rows import IGNORE, Rows
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from vision import Heads, patches

import examples
from llava_cot.scenes.questions import TYPES, SceneQuestion, ask_about
from llava_cot.scenes.world import MAX_OBJECTS, MIN_OBJECTS, Scene

KINDS = ("answers", "duels", "checks", "captions", "endings")
SEEING = 0.2  # the weight of the picture encoder's own loss
HARD = {"count": 2, "subtract": 2, "chain": 2, "compare": 2}  # drawn more often than the others
TYPE_WEIGHTS = [HARD.get(name, 1) for name in TYPES]


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


@dataclass(frozen=True)
class Batch:
    """Examples of one kind; the picture of each, and the question where it is known."""

    kind: str
    pictures: list[int]
    examples: list[examples.Example]
    questions: list[SceneQuestion]


def made_up(pool: Pool, kind: str, rng: random.Random, size: int) -> Batch:
    """Pictures, and an example of one kind for each."""
    batch = Batch(kind, [], [], [])
    count = rng.randint(MIN_OBJECTS, MAX_OBJECTS)  # scenes of one size in a batch: less padding
    while len(batch.pictures) < size:
        index = rng.randrange(1000, len(pool))
        scene = pool.scene(index)
        if len(scene.objects) != count:
            continue
        question, example = _example(scene, kind, rng)
        batch.pictures.append(index)
        batch.questions.append(question)
        batch.examples.append(example)
    return batch


def _example(scene: Scene, kind: str, rng: random.Random) -> tuple[SceneQuestion, examples.Example]:
    while True:
        question = ask_about(scene, rng, rng.choices(TYPES, TYPE_WEIGHTS)[0])
        if kind == "endings" and (made := examples.ending(scene, question)):
            return question, made
        if kind == "endings":
            continue
        if kind == "answers":
            return question, examples.answer(scene, question, rng)
        if kind == "captions":
            return question, examples.description(scene)
        made = examples.made_up_duel if kind == "duels" else examples.check
        example = made(scene, question, rng)
        if example is not None:
            return question, example


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

    def batch(self, kind: str) -> Batch:
        chosen = next(self.queues[kind])
        made = []
        for item in chosen:
            direct = kind == "duels" and self.rng.random() < 0.25
            reply = item["reply"]
            if direct:
                reply = reply[reply.index(examples.CHOICE) :]
            made.append(examples.Example(item["prompt"], reply, kind == "duels", direct))
        return Batch(kind, [item["picture"] for item in chosen], made, [])


class Teacher(nn.Module):
    """The heads that help the model to learn: on its picture encoder and on its text layers."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.heads, self.aids = Heads(), Aids()
        self.watch = Watch(model.model.language_model.layers)

    def aside(self, batch: Batch, rows: Rows, pool: Pool) -> Tensor:
        """The loss of the text layers' heads, where the batch tells what is true."""
        told = [
            mention for row, example in enumerate(batch.examples) for mention in rows.mentions(row, example)
        ]
        last: list[Last] = []
        if batch.kind in ("answers", "endings"):
            for row, (example, question) in enumerate(zip(batch.examples, batch.questions, strict=True)):
                last += rows.lasts(row, example, question)
        loss = self.aids.lasts(self.watch.states, last) if last else torch.zeros(())
        if not told:
            return loss
        if batch.kind == "duels":
            scenes = [pool.scene(index) for index in batch.pictures]
            return self.aids.faults(self.watch.states, told, scenes)
        if batch.kind in ("answers", "checks") and batch.questions:
            return loss + self.aids.questions(self.watch.states, told, batch.questions)
        return torch.zeros(())


def forward_loss(
    model: nn.Module, rows: Rows, pool: Pool, batch: Batch, teacher: Teacher
) -> tuple[Tensor, float, float]:
    """Weighted mean cross-entropy of the learned tokens plus the heads' losses; the tokens' accuracy (of what
    decides, in duels); the loss of the text layers' heads."""
    ids, labels, weights, deciding = rows.batch(batch.examples)
    inner = model.model
    extra: dict[str, Tensor] = {}
    aside = torch.zeros(())
    if batch.examples[0].picture:
        output = inner.vision_model(**pool.batch(batch.pictures)).last_hidden_state
        scenes = [pool.scene(i) for i in batch.pictures]
        aside = SEEING * teacher.heads.loss(patches(output), scenes)[0]
        states = inner.multi_modal_projector(output).reshape(len(scenes), output.shape[-2], -1)
        mask = torch.ones(*ids.shape, 1, 1, dtype=torch.long)
        mask[:, : len(rows.start)] = 0
        extra = {
            "cross_attention_states": states,
            "cross_attention_mask": mask,
        }
    hidden = inner(input_ids=ids, use_cache=False, **extra).last_hidden_state
    learned = labels != IGNORE
    logits, target, weight = model.lm_head(hidden[learned]), labels[learned], weights[learned]
    loss = (F.cross_entropy(logits, target, reduction="none") * weight).sum() / weight.sum()
    helped = teacher.aside(batch, rows, pool)
    guess = logits.argmax(-1) == target
    shown = guess[deciding[learned]] if deciding.any() else guess[weight > 1] if (weight > 1).any() else guess
    return loss + aside + helped, shown.float().mean().item(), helped.item()


def shipped(folder: Path, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> dict[str, Tensor]:
    """The weights of a checkpoint, fitted to this tokenizer: tokens that both know keep their rows."""
    weights, old = type(model).from_pretrained(folder).state_dict(), AutoTokenizer.from_pretrained(folder)
    fresh, theirs = model.state_dict(), old.get_vocab()
    for name in ("model.language_model.embed_tokens.weight", "lm_head.weight"):
        rows = fresh[name].clone()
        for token, place in tokenizer.get_vocab().items():
            if token in theirs and place < len(rows) and theirs[token] < len(weights[name]):
                rows[place] = weights[name][theirs[token]]
        weights[name] = rows
    return weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument(
        "--start", help="the earlier stage to start from, or a checkpoint's folder; else the vision stage"
    )
    parser.add_argument("--vision", action="store_true", help="take the picture encoder of the vision stage")
    parser.add_argument("--ground", action="store_true", help="start the projector from the vision heads")
    parser.add_argument("--steps", type=int, default=2300)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--muon", type=float, default=0.008)
    parser.add_argument(
        "--shares",
        type=float,
        nargs=5,
        default=(0.5, 0.25, 0.25, 0.0, 0.0),
        metavar=("ANSWERS", "DUELS", "CHECKS", "CAPTIONS", "ENDINGS"),
    )
    parser.add_argument(
        "--duels", type=Path, help="sampled duels; two in five duels and checks are then of these"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stop", type=int, help="end here, with the schedule of --steps")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    pool, processor = Pool(args.run), build_processor()
    model, rows = build_model(processor), Rows(processor.tokenizer)
    teacher = Teacher(model)
    path, step = args.run / f"{args.name}.pt", 0
    optimize = optimizers(model, teacher, args.rate, args.muon)
    if path.exists():
        state = load(path)
        for optimizer, kept in zip(optimize, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        step = state["step"]
    elif args.start and Path(args.start).is_dir():
        start = shipped(Path(args.start), model, processor.tokenizer)
        state = {"model": start, "heads": teacher.state_dict(), "optimizers": []}
    else:
        state = torch.load(args.run / f"{args.start or 'vision'}.pt", weights_only=False)
    target = model if "optimizers" in state else model.model.vision_model
    target.load_state_dict(state["model"])
    # Heads that came later than the stage that is started from begin anew.
    (teacher if "optimizers" in state else teacher.heads).load_state_dict(state["heads"], strict=False)
    if args.vision and step == 0:
        encoder = torch.load(args.run / "vision.pt", weights_only=False)
        model.model.vision_model.load_state_dict(encoder["model"])
        teacher.heads.load_state_dict(encoder["heads"])
    if args.ground and step == 0:
        ground(model, teacher.heads, pool)
    rng = random.Random(f"{args.name}/{args.seed}/{step}")
    sampled = Sampled(args.duels, rng, args.batch) if args.duels else None
    began, seen = time.time(), dict.fromkeys(KINDS, (0.0, 0.0, 0.0))
    while step < (args.stop or args.steps):
        kind = rng.choices(KINDS, args.shares)[0]
        if sampled and kind in sampled.by_kind and rng.random() < 0.4:
            batch = sampled.batch(kind)
        else:
            batch = made_up(pool, kind, rng, args.batch)
        loss, right, helped = forward_loss(model, rows, pool, batch, teacher)
        share = learning_rate(step, args.steps, 1.0)
        for optimizer, peak in zip(optimize, (args.muon, args.rate), strict=True):
            optimizer.param_groups[0]["lr"] = share * peak
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimize:
            optimizer.step()
        step += 1
        old, new = seen[kind], (loss.item(), right, helped)
        seen[kind] = tuple(0.95 * a + 0.05 * b for a, b in zip(old, new, strict=True)) if old[0] else new
        if step % 50 == 0:
            told = " ".join(
                f"{name} {value[0]:.3f}/{value[1]:.3f}/{value[2]:.3f}" for name, value in seen.items()
            )
            print(f"{step} {time.time() - began:.0f}s {told}", flush=True)
        if step % 250 == 0 or step == (args.stop or args.steps):
            save(
                path,
                model=model.state_dict(),
                heads=teacher.state_dict(),
                optimizers=[optimizer.state_dict() for optimizer in optimize],
                step=step,
            )


if __name__ == "__main__":
    main()
