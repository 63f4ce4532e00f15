"""The batches of one step of mini-base's training, by number: the same number always gives the same batch."""

from __future__ import annotations

import random
from collections.abc import Sequence

from torch.utils.data import Dataset

from llava_cot.scenes.world import MAX_OBJECTS
from research.mini.examples import MAKE
from research.mini.learner import Batch
from research.mini.pictures import Pool
from research.mini.recipe import TrainStep
from research.mini.rows import Rows

_FEW = 4  # objects in the largest scenes at first, where they grow


class Batches(Dataset[dict[str, Batch]]):
    """Each of one kind, drawn by the step's shares, and of scenes of one size: less padding."""

    def __init__(self, step: TrainStep, seed: int, pool: Pool, rows: Rows):
        self._step, self._seed, self._pool, self._rows = step, seed, pool, rows

    def __len__(self) -> int:
        return self._step.steps

    def __getitem__(self, number: int) -> dict[str, Batch]:
        rng = random.Random(f"{self._step.name}/{self._seed}/{number}")
        kinds, shares = list(self._step.shares), list(self._step.shares.values())
        kind = rng.choices(kinds, shares)[0]
        if kind == "seeing":
            places = rng.sample(range(len(self._pool)), self._step.batch)
        else:
            most = MAX_OBJECTS if self._step.grow is None else _FEW + number // self._step.grow
            alike = self._pool.by_count[rng.choice([size for size in self._pool.by_count if size <= most])]
            places = [int(alike[rng.randrange(len(alike))]) for _ in range(self._step.batch)]
        scenes, pixels = [self._pool.scene(place) for place in places], self._pool.batch(places)
        if kind == "seeing":
            return {"batch": Batch(kind, scenes, pixels)}
        rows = [self._rows.row(MAKE[kind](scene, rng)) for scene in scenes]
        return {"batch": Batch(kind, scenes, pixels, rows)}


def collate(batches: Sequence[dict[str, Batch]]) -> dict[str, Batch]:
    """The one batch: the data set makes whole ones."""
    (batch,) = batches
    return batch
