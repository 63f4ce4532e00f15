"""The batches of one step of mini's training, by number: the same number always gives the same batch."""

from __future__ import annotations

import random
from collections.abc import Sequence

from torch.utils.data import Dataset

from llava_cot.scenes.questions import SceneQuestion, ask_about
from llava_cot.scenes.world import MAX_OBJECTS, MIN_OBJECTS, Scene
from research.mini import examples, made_up_duels
from research.mini.learner import Batch
from research.mini.pictures import Pool
from research.mini.recipe import TrainStep
from research.mini.rows import Rows
from research.mini.sampled_duels import Sampled

_SAMPLED_SHARE = 0.4  # of duels and checks, where there are sampled ones


class Batches(Dataset[dict[str, Batch]]):
    """Each of one kind, drawn by the step's shares, and of scenes of one size: less padding."""

    def __init__(
        self,
        step: TrainStep,
        target: examples.Target,
        seed: int,
        pool: Pool,
        rows: Rows,
        sampled: Sampled | None,
    ):
        self._step, self._target, self._seed = step, target, seed
        self._pool, self._rows, self._sampled = pool, rows, sampled

    def __len__(self) -> int:
        return self._step.steps

    def __getitem__(self, number: int) -> dict[str, Batch]:
        rng = random.Random(f"{self._step.name}/{self._seed}/{number}")
        kinds, shares = list(self._step.shares), list(self._step.shares.values())
        kind = rng.choices(kinds, shares)[0]
        if self._sampled and kind in ("duels", "checks") and rng.random() < _SAMPLED_SHARE:
            return {"batch": self._of_samples(kind, number, self._sampled)}
        if kind == "seeing":
            places = rng.sample(range(len(self._pool)), self._step.batch)
            scenes = [self._pool.scene(place) for place in places]
            return {"batch": Batch(kind, scenes, self._pool.batch(places))}
        return {"batch": self._made_up(kind, rng)}

    def _made_up(self, kind: str, rng: random.Random) -> Batch:
        places = self._pool.by_count[rng.randint(MIN_OBJECTS, MAX_OBJECTS)]
        chosen = [int(places[rng.randrange(len(places))]) for _ in range(self._step.batch)]
        scenes = [self._pool.scene(place) for place in chosen]
        pairs = [_example(scene, kind, self._target, rng) for scene in scenes]
        return Batch(
            kind,
            scenes,
            self._pool.batch(chosen),
            [self._rows.row(example) for _, example in pairs],
            [question for question, _ in pairs],
        )

    def _of_samples(self, kind: str, number: int, sampled: Sampled) -> Batch:
        items = sampled.batch(kind, number, self._step.batch)
        places = [item.scene for item in items]
        return Batch(
            kind,
            [self._pool.scene(place) for place in places],
            self._pool.batch(places),
            [self._rows.row(item.example) for item in items],
        )


def _example(
    scene: Scene, kind: str, target: examples.Target, rng: random.Random
) -> tuple[SceneQuestion, examples.Example]:
    while True:
        question = ask_about(scene, rng, difficulty="hard")
        made: examples.Example | None
        match kind:
            case "answers":
                made = examples.answer(scene, question, rng, target)
            case "captions":
                made = examples.description(scene)
            case "endings":
                made = examples.ending(scene, question)
            case "checks":
                made = examples.check(scene, question, rng)
            case _:
                made = made_up_duels.made_up_duel(scene, question, rng)
        if made is not None:
            return question, made


def collate(batches: Sequence[dict[str, Batch]]) -> dict[str, Batch]:
    """The one batch: the data set makes whole ones."""
    (batch,) = batches
    return batch
