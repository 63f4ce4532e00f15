"""How mini's training labels a duel of captions: nearer to the truth, for a reason that can be seen."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from llava_cot.scenes.ground_truth import GAP, align, caption_verdict, wrong_words

DESCRIPTIONS = st.tuples(
    st.sampled_from(["large", "small"]),
    st.sampled_from(["red", "blue"]),
    st.sampled_from(["metal", "rubber"]),
    st.sampled_from(["cube", "sphere"]),
).map(" ".join)
CAPTIONS = st.lists(DESCRIPTIONS, max_size=4).map(tuple)
A, B, C = "large red metal cube", "small blue rubber sphere", "small red metal sphere"


def every_pairing(seen: int, truth: int) -> list[list[tuple[int, int]]]:
    """All ways to pair places of two lists in order, some of them left alone."""
    return [
        list(zip(some, others, strict=True))
        for size in range(min(seen, truth) + 1)
        for some in combinations(range(seen), size)
        for others in combinations(range(truth), size)
    ]


@given(CAPTIONS, CAPTIONS)
def test_no_pairing_costs_less(seen: tuple[str, ...], truth: tuple[str, ...]) -> None:
    cost, pairs = align(seen, truth)
    costs = [
        sum(wrong_words(seen[i], truth[j]) for i, j in pairing)
        + GAP * (len(seen) + len(truth) - 2 * len(pairing))
        for pairing in every_pairing(len(seen), len(truth))
    ]
    assert cost == min(costs)
    matched = [(i, j) for i, j in enumerate(pairs) if j is not None]
    assert cost == costs[every_pairing(len(seen), len(truth)).index(matched)]


@given(CAPTIONS, CAPTIONS, CAPTIONS)
def test_the_choice_follows_from_the_reason(
    a: tuple[str, ...], b: tuple[str, ...], truth: tuple[str, ...]
) -> None:
    verdict = caption_verdict(a, b, truth)
    if verdict is None:
        return
    choice, reason = verdict
    costs = align(a, truth)[0], align(b, truth)[0]
    assert choice == (1 if costs[0] < costs[1] else 2)
    said = reason.split(" is ", 1)[1].replace(" and ", ", ").split(", ")
    first, second, real = (words.partition(" in ")[0] for words in said)
    assert (first == real, second == real) == (choice == 1, choice == 2)
    other = caption_verdict(b, a, truth)
    assert other is not None and other[0] == 3 - choice


def test_an_object_that_was_missed_is_named_and_what_follows_is_not_wrong() -> None:
    assert align((A, C), (A, B, C)) == (GAP, (0, 2))
    assert caption_verdict([A, C], [A, B, C], [A, B, C]) == (
        2,
        f"the second is a {C} in response 1, a {B} in response 2 and a {B} in the image",
    )
    assert caption_verdict([A, B], [A], [A, B]) == (
        1,
        f"the second is a {B} in response 1, nothing in response 2 and a {B} in the image",
    )


def test_one_word_that_differs_is_named_alone() -> None:
    assert caption_verdict([A], [A.replace("cube", "sphere")], [A]) == (
        1,
        "the first is cube in response 1, sphere in response 2 and cube in the image",
    )


def test_captions_that_are_equally_wrong_have_no_winner() -> None:
    assert caption_verdict([A], [A], [A]) is None
    assert caption_verdict([B, A], [A.replace("red", "blue")], [A]) is not None
    assert caption_verdict([A.replace("red", "blue")], [A.replace("large", "small")], [A]) is None
