"""Equations that are true are found true, false ones false, whatever stands around them."""

import time
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llava_cot.search.judges.arithmetic import equations

# A side as it is written, and its value.
Side = tuple[str, Fraction]

whole = st.integers(0, 9_999).flatmap(
    lambda n: st.sampled_from([(str(n), Fraction(n)), (f"{n:,}", Fraction(n)), (f"${n}", Fraction(n))])
)
decimal = st.decimals(0, 9999, places=2).map(lambda d: (str(d), Fraction(d)))


def joined(sign: str, a: Side, b: Side) -> Side:
    written = {"+": "+", "-": "-", "*": "x", "/": "÷"}[sign]
    value = {"+": a[1] + b[1], "-": a[1] - b[1], "*": a[1] * b[1], "/": a[1] / (b[1] or 1)}[sign]
    return f"({a[0]} {written} {b[0]})", value


sides = st.recursive(
    whole | decimal,
    lambda parts: st.builds(
        lambda sign, a, b: joined("+" if sign == "/" and b[1] == 0 else sign, a, b),
        st.sampled_from("+-*/"),
        parts,
        parts,
    ),
    max_leaves=4,
)
worked = st.builds(joined, st.sampled_from("+-*"), sides, sides)
before_and_after = st.tuples(
    st.sampled_from(["", "So ", "We see that ", "- ", "1. ", "Step 2: ", "Total = ", "\n", "x = ", "<b> "]),
    st.sampled_from(["", ".", ", so", " cubes.", "\n7 more", " - then", "; 3 left", "!", " = y", " </b>"]),
) | st.sampled_from([("(", ")"), ("**", "**"), ("\\(", "\\)")])


def result(value: Fraction) -> str:
    """As a decimal if that is short and exact, else as a fraction."""
    return str(Decimal(value.numerator) / value.denominator) if 10**8 % value.denominator == 0 else str(value)


def short(value: Fraction) -> bool:
    return value >= 0 and max(value.numerator, value.denominator) < 10**14


@given(before_and_after, worked)
def test_what_is_true_is_found_true(around: tuple[str, str], side: Side) -> None:
    text, value = side
    assume(short(value))
    for equation in (f"{text} = {result(value)}", f"{text} = {text} = {result(value)}"):
        [found] = equations(equation.join(around))
        assert found.holds
        assert found.text == equation


@given(before_and_after, worked, st.integers(1, 1000), st.booleans())
def test_what_is_false_is_found_false(around: tuple[str, str], side: Side, off: int, less: bool) -> None:
    text, value = side
    value += -off if less else off
    assume(short(value))
    for equation in (f"{text} = {result(value)}", f"{text} = {result(value)} = {text}"):
        [found] = equations(equation.join(around))
        assert not found.holds


@given(st.text(st.sampled_from("0123456789+-*/^=().,% xX$\n°\\timesof")) | st.text())
def test_nothing_breaks_it(text: str) -> None:
    for found in equations(text):
        assert found.text and "=" in found.text


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("3 + 4 = 7", True),
        ("3 + 4 = 8", False),
        ("12/4=3", True),
        ("2 x 3 = 6, and 2 × 3 = 7", [True, False]),
        ("1 + 2 + 3 = 3 + 3 = 6", True),
        ("1 + 2 + 3 = 3 + 4 = 6", False),
        ("1,200 + 34 = 1,234", True),
        ("5 − 7 = −2", True),
        ("-3 + 4 = 1", True),
        ("2 + 3 * 4 = 14", True),
        ("(2 + 3) * 4 = 14", False),
        ("2^10 = 1024 and 2**3 = 9", [True, False]),
        ("\\(3 \\times 4 = 12\\)", True),
        ("180° - 90° - 35° = 55°", True),
        ("**3 + 4 = 8**, or 3 + 4 = **7**", [False, True]),
        ("5 / 0 = 1", False),
        # Rounded, cut off, and neither.
        ("10 / 3 = 3.33", True),
        ("2 / 3 = 0.66 = 0.67", False),
        ("2 / 3 = 0.66; 2 / 3 = 0.67; 2 / 3 = 0.68", [True, True, False]),
        ("0.5 x 3 = 1.4", False),
        ("7 / 2 = 3", False),
        # Per cent.
        ("1/4 = 25% and 3/12 x 100 = 25%", [True, True]),
        ("50% + 25% = 75%", True),
        ("20% x 50 = 10; 20% x 50 = 1000", [True, False]),
        ("1/3 = 33%", True),
    ],
)
def test_each_kind(text: str, holds: bool | list[bool]) -> None:
    assert [found.holds for found in equations(text)] == ([holds] if isinstance(holds, bool) else holds)


@pytest.mark.parametrize(
    "text",
    [
        "3 = 4",
        "x + 3 + 4 = 10",
        "2x + 3 = 7",
        "3(4 + 1) = 16",
        "f(3) + 4 = 8",
        "3 + 4 = 8 - x",
        "3 + 4 = 8y",
        "2 + 3 = 6 thousand",
        "20% of 50 + 1 = 12",
        "17 mod 5 + 1 = 4",
        "50 + 10% = 55",
        "3 + 4 = 7e3",
        "3,5 + 1,5 = 6",
        "10:30 + 5 = 36",
        "3 + 4 ≈ 8",
        "9**9**9 = 1",
        "9^9^9^9 = 1",
        f"{'9' * 40} + 1 = 1",
        "2^0.5 = 2",
        "__import__('os') = 1 + 1",
    ],
)
def test_what_may_mean_something_else_or_is_too_large_is_left_out(text: str) -> None:
    assert equations(text) == []


@pytest.mark.parametrize(
    "piece",
    ["1+", "(", "1 ", "1 x ", "9", " ", "%", "(1)", "1,111", "- ", "2^", "1.1", "* ", "=", "1 + (", "x1"],
)
def test_time_is_linear(piece: str) -> None:
    def seconds(times: int) -> float:
        text, begun = piece * times + " 1 + 1 = 2", time.process_time()
        equations(text)
        return time.process_time() - begun

    seconds(100)
    assert seconds(10_000) < 15 * max(seconds(2_000), 0.01)
