"""The figures of a judge, against counting every pair."""

import math
from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llava_cot.evaluation.judge_accuracy import (
    EVEN,
    JUDGE,
    ONE,
    WHOLE,
    JudgedQuestion,
    JudgedText,
    OrderedPairs,
    accuracy,
    auc,
    even_choice,
    share_ordered,
)
from llava_cot.evaluation.statistics import mean_with_interval
from llava_cot.evaluation.types import Unit

texts = st.lists(
    st.builds(JudgedText, st.booleans(), st.integers(-3, 3).map(float), st.integers(1, 3)), max_size=9
)


def every_pair(judged: Sequence[JudgedText]) -> list[float]:
    """One by one: each right sample with each wrong one."""
    drawn = [one for one in judged for _ in range(one.times)]
    return [
        (a.score > b.score) + (a.score == b.score) / 2
        for a, b in product(drawn, repeat=2)
        if a.right and not b.right
    ]


@given(texts)
def test_the_auc_is_the_share_of_all_pairs(judged: list[JudgedText]) -> None:
    pairs = every_pair(judged)
    found = auc(judged)
    assert found == (pytest.approx(sum(pairs) / len(pairs)) if pairs else None)


def test_a_judge_of_questions_has_a_high_auc_and_orders_nothing() -> None:
    """It scores every answer by how easy the question is: what a search must not be planned with."""
    easy = [JudgedText(True, 0.9, 7), JudgedText(False, 0.9, 1)]
    hard = [JudgedText(True, 0.1, 1), JudgedText(False, 0.1, 7)]
    assert auc([*easy, *hard]) == pytest.approx((7 * 7 + 0.5 * (7 + 7)) / 64)
    share = share_ordered([OrderedPairs("easy", "s", 3.5, 7), OrderedPairs("hard", "s", 3.5, 7)])
    assert share is not None and share.value == 50


counted = st.lists(
    st.tuples(st.sampled_from("abcde"), st.integers(0, 4), st.integers(1, 4)), min_size=1, max_size=12
)


@settings(max_examples=15)
@given(counted)
def test_the_share_is_of_all_pairs_and_its_interval_over_questions(
    given_pairs: list[tuple[str, int, int]],
) -> None:
    pairs = [OrderedPairs(question, "s", min(right, count), count) for question, right, count in given_pairs]
    found = share_ordered(pairs)
    assert found is not None
    one_by_one = [
        Unit(f"{n}/{i}", float(i < pair.ordered), "", pair.question)
        for n, pair in enumerate(pairs)
        for i in range(int(pair.count))
    ]
    exact = mean_with_interval(one_by_one)
    assert [found.value, found.low, found.high] == pytest.approx([exact.value, exact.low, exact.high])


def test_no_pairs_no_share() -> None:
    assert share_ordered([]) is None
    assert auc([]) is None and auc([JudgedText(True, 1.0)]) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.just(0)), min_size=1, max_size=8), st.data())
def test_an_even_choice_forgets_how_often_a_text_was_drawn(
    drawn: list[tuple[str, int]], data: st.DataObject
) -> None:
    values = {text: data.draw(st.integers(0, 1)) for text, _ in drawn}
    found = even_choice((text, values[text]) for text, _ in drawn)
    assert math.isclose(found, sum(values.values()) / len(values))


def test_an_even_choice_is_below_one_sample_where_samples_agree() -> None:
    samples = [("right", 1.0)] * 7 + [("wrong", 0.0)]
    assert even_choice(samples) == 0.5 < 7 / 8


def test_a_summary_by_stage() -> None:
    def question(name: str, ordered: float, one: float, judge: float) -> JudgedQuestion:
        scored = {"think": (JudgedText(True, ordered), JudgedText(False, 0.5))}
        pairs = (OrderedPairs(name, "think", ordered, 1), OrderedPairs(name, WHOLE, 1, 2))
        return JudgedQuestion(pairs if 0 < one < 1 else (), scored, {ONE: one, EVEN: 0.5, JUDGE: judge})

    judged = [question("a", 1, 0.5, 1), question("b", 0, 0.25, 0), question("c", 1, 1, 1)]
    found = accuracy(judged, ("think", "answer"))
    assert (found.questions, found.mixed) == (3, 2)
    think, answer, whole = found.stages
    assert (think.stage, think.pairs, think.ordered and think.ordered.value) == ("think", 2, 50)
    assert think.auc == pytest.approx(6 / 9)
    assert (answer.pairs, answer.ordered, answer.auc) == (0, None, None)
    assert (whole.stage, whole.pairs, whole.ordered and whole.ordered.value) == (WHOLE, 4, 50)
    assert {name: round(one.value, 1) for name, one in found.chosen.items()} == {
        ONE: 58.3, EVEN: 50.0, JUDGE: 66.7,
    }  # fmt: skip
