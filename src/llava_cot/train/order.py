"""In what order a run sees its rows: a function of the seed, so that a run that goes on sees the same.

Owns shuffling, repetition and grouping by length. Knows rows by their number alone, and neither processes nor
epochs of a trainer: a run is one list of rows, of which each step takes the next ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice

# Batches that are sorted by length together: enough that neighbours are alike, few enough for chance.
_TOGETHER = 50


def run_order(
    *,
    steps: int,
    batch: int,
    pictured: Sequence[bool],
    repeats: Sequence[float],
    lengths: Sequence[int] | None,
    seed: int,
) -> list[int]:
    """The rows of `steps` batches of `batch` rows, one after the other.

    In an epoch row i comes `repeats[i]` times, a fraction of a time by chance. A batch is of rows with
    pictures or of rows without; what fills no batch waits for the next epoch. With `lengths`, rows of like
    length share batches.
    """
    batches = _batches(batch, pictured, repeats, lengths, seed)
    return [row for one in islice(batches, steps) for row in one]


def _batches(
    batch: int,
    pictured: Sequence[bool],
    repeats: Sequence[float],
    lengths: Sequence[int] | None,
    seed: int,
) -> Iterator[list[int]]:
    waiting: dict[bool, list[int]] = {True: [], False: []}
    epoch = 0
    while True:
        rng = random.Random(f"{seed}/{epoch}")
        epoch += 1
        drawn = [i for i, times in enumerate(repeats) for _ in range(int(times) + (rng.random() < times % 1))]
        rng.shuffle(drawn)
        whole: list[list[int]] = []
        for kind, rows in waiting.items():
            rows += [i for i in drawn if pictured[i] is kind]
            ready = len(rows) - len(rows) % batch
            taken, waiting[kind] = rows[:ready], rows[ready:]
            if lengths is not None:
                size = batch * _TOGETHER
                groups = (taken[i : i + size] for i in range(0, ready, size))
                taken = [i for group in groups for i in sorted(group, key=lengths.__getitem__, reverse=True)]
            whole += [taken[i : i + batch] for i in range(0, ready, batch)]
        rng.shuffle(whole)
        yield from whole


def even_batches(pictured: Sequence[bool], lengths: Sequence[int], batch: int, times: int) -> list[list[int]]:
    """All rows in batches of one kind; of each kind a multiple of `times`, the last one repeated."""
    made: list[list[int]] = []
    for kind in (True, False):
        rows = sorted(
            (i for i, has in enumerate(pictured) if has is kind), key=lengths.__getitem__, reverse=True
        )
        some = [rows[i : i + batch] for i in range(0, len(rows), batch)]
        made += some + some[-1:] * (-len(some) % times)
    return made
