"""Every row comes as often as it should, in batches of one kind, in the same order each time."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from llava_cot.train.collate import even_batches, run_order

PICTURED = st.lists(st.booleans(), min_size=1, max_size=60)


@given(PICTURED, st.integers(1, 5), st.integers(0, 3), st.booleans())
def test_batches_are_of_one_kind_and_no_row_is_ahead_of_another(
    pictured: list[bool], batch: int, seed: int, grouped: bool
) -> None:
    lengths = [10 + 7 * i % 13 for i in range(len(pictured))] if grouped else None

    def order(steps: int) -> list[int]:
        return run_order(
            steps=steps,
            batch=batch,
            pictured=pictured,
            repeats=[1.0] * len(pictured),
            lengths=lengths,
            seed=seed,
        )

    steps = 3 * len(pictured) // batch + 1
    rows = order(steps)
    assert len(rows) == steps * batch
    for start in range(0, len(rows), batch):
        assert len({pictured[i] for i in rows[start : start + batch]}) == 1
    assert order(steps + 2)[: len(rows)] == rows
    for kind in (True, False):
        counts = [Counter(rows)[i] for i, has in enumerate(pictured) if has is kind]
        # A row may wait for the next epoch, and an epoch may be cut.
        assert not counts or max(counts) - min(counts) <= 2


def test_an_epoch_has_each_row_as_often_as_it_repeats() -> None:
    repeats = [1.0] * 100 + [2.5] * 100 + [0.5] * 100
    rows = run_order(steps=4000, batch=1, pictured=[True] * 300, repeats=repeats, lengths=None, seed=0)
    counts = Counter(rows[:370])  # within an epoch of about 400
    assert max(counts[i] for i in range(100)) == 1
    assert max(counts[i] for i in range(100, 200)) == 3
    assert max(counts[i] for i in range(200, 300)) == 1
    counts = Counter(rows)
    for start, times in ((0, 1.0), (100, 2.5), (200, 0.5)):
        assert abs(sum(counts[i] for i in range(start, start + 100)) / 1000 - times) < 0.06


def test_rows_of_like_length_share_batches() -> None:
    lengths = [(37 * i) % 500 for i in range(1000)]

    def padding(grouped: bool) -> float:
        rows = run_order(
            steps=125, batch=8, pictured=[True] * 1000, repeats=[1.0] * 1000,
            lengths=lengths if grouped else None, seed=1,
        )  # fmt: skip
        assert sorted(rows) == list(range(1000))
        batches = [[lengths[i] for i in rows[k : k + 8]] for k in range(0, 1000, 8)]
        return sum(8 * max(batch) - sum(batch) for batch in batches) / sum(lengths)

    assert padding(grouped=True) < 0.05 < 0.5 < padding(grouped=False)


@given(PICTURED, st.integers(1, 4), st.integers(1, 3))
def test_evaluation_has_every_row(pictured: list[bool], batch: int, times: int) -> None:
    batches = even_batches(pictured, list(range(len(pictured))), batch, times)
    assert len(batches) % times == 0
    assert {i for one in batches for i in one} == set(range(len(pictured)))
    assert all(len({pictured[i] for i in one}) == 1 and len(one) <= batch for one in batches)
