"""A draw is uniform, depends on the seed and the records alone, and grows at its end."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava_cot.data.record import Record, Turn
from llava_cot.data.sampling.finding import first, place

RECORDS = [Record(f"r/{n}", (Turn(f"Is it {n}?"),)) for n in range(20)]


@given(st.lists(st.binary(min_size=16, max_size=16) | st.just(b"x" * 16), max_size=30), st.integers(1, 12))
def test_the_first_are_the_smallest(places: list[bytes], count: int) -> None:
    assert first(count, places) == (frozenset(sorted(set(places))[:count]), len(places))
    assert first(None, places) == (frozenset(places), len(places))


def drawn(seed: int, count: int, records: list[Record]) -> list[str]:
    chosen, read = first(count, (place(seed, "s", record) for record in records))
    assert read == len(records)
    return sorted(record.id for record in records if place(seed, "s", record) in chosen)


def test_the_order_of_records_does_not_matter() -> None:
    shuffled = random.Random(1).sample(RECORDS, len(RECORDS))
    assert drawn(3, 7, RECORDS) == drawn(3, 7, shuffled)
    assert drawn(3, 7, RECORDS) != drawn(4, 7, RECORDS)
    assert set(drawn(3, 7, RECORDS)) < set(drawn(3, 8, RECORDS))


def test_every_record_and_every_pair_is_as_likely_as_any_other() -> None:
    seeds, size, count = 4000, 20, 5
    alone: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for seed in range(seeds):
        ids = drawn(seed, count, RECORDS)
        alone.update(ids)
        pairs.update((a, b) for i, a in enumerate(ids) for b in ids[i + 1 :])
    # Chi-square with 19 and 189 degrees of freedom; 5 standard deviations above its mean at the most.
    for counts, cells, drawn_each in ((alone, size, count), (pairs, 190, 10)):
        expected = seeds * drawn_each / cells
        chi_square = sum((seen - expected) ** 2 / expected for seen in counts.values())
        assert len(counts) == cells
        assert chi_square < cells - 1 + 5 * (2 * (cells - 1)) ** 0.5


@pytest.mark.parametrize(
    "other", [Record("r/0", (Turn("Is it 1?"),)), Record("r/1", RECORDS[0].turns), RECORDS[1]]
)
def test_places_differ_with_id_question_seed_and_source(other: Record) -> None:
    assert place(0, "s", RECORDS[0]) != place(0, "s", other)
    assert place(0, "s", RECORDS[0]) not in {place(1, "s", RECORDS[0]), place(0, "t", RECORDS[0])}
    assert len(place(0, "s", RECORDS[0])) == 16
