from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava_cot.models.local import prompt_lookup
from llava_cot.models.local.prompt_lookup import PromptLookup


def guessed(table: PromptLookup, ids: list[int], most: int = 6) -> list[int]:
    return [token for token, _ in table.guess(ids, most)]


def test_what_followed_before_is_guessed_again() -> None:
    table = PromptLookup()
    for _ in range(9):
        table.learn([1, 2, 3, 4, 5, 6], 0)
    assert guessed(table, [9, 9, 1, 2]) == [3, 4, 5, 6]
    assert guessed(table, [1, 2], 2) == [3, 4]
    assert guessed(table, [2, 1]) == guessed(table, [1]) == []


def test_the_longest_known_run_counts() -> None:
    table = PromptLookup()
    table.learn([1, 2, 3, 4], 0)
    table.learn([9, 2, 3, 5], 0)
    assert guessed(table, [1, 2, 3], 1) == [4]
    assert guessed(table, [8, 2, 3], 1) == [5]


def test_chances_grow_with_every_time_and_fall_along_the_guess() -> None:
    table = PromptLookup()
    table.learn([1, 2, 3, 4, 5], 0)
    once = [chance for _, chance in table.guess([1, 2], 6)]
    table.learn([1, 2, 3, 4, 5], 0)
    twice = [chance for _, chance in table.guess([1, 2], 6)]
    assert once == sorted(once, reverse=True)
    assert all(0 < a < b < 1 for a, b in zip(once, twice, strict=False))
    table.learn([1, 2, 7], 0)
    assert table.guess([1, 2], 1)[0] == (7, once[0])


def test_only_what_is_new_is_learned() -> None:
    table = PromptLookup()
    table.learn([1, 2, 3, 4], 3)
    assert guessed(table, [1, 2]) == []
    assert guessed(table, [2, 3]) == [4]


def test_the_table_does_not_grow_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_lookup, "_SIZE", 30)
    table = PromptLookup()
    for start in range(0, 1000, 10):
        table.learn(list(range(start, start + 10)), 0)
        assert len(table._new) + len(table._old) <= 2 * (30 + 3 * 10)
    assert guessed(table, [998]) == []
    assert guessed(table, [990, 991], 1) == [992]
    assert guessed(table, [0, 1]) == []


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 8))
def test_no_text_fails_and_no_guess_is_longer_than_allowed(ids: list[int], most: int) -> None:
    table = PromptLookup()
    table.learn(ids, 0)
    assert len(table.guess(ids, most)) <= most
