"""Numbers as people write them: equal, different, or not to be decided; never a part of one."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava_cot.core.answer_matching import agrees
from llava_cot.core.numbers import Number, compare_numbers, find_numbers, read_number

# Each line: a number, and texts that are equal to it, " | " between them.
EQUAL = """
0 | zero | 0.0 | −0 | ٠
5 | five | 5.0 | +5 | 5. | (5) | **5** | "5" | \\boxed{5} | $5$ | ５ | ٥ | ५ | 5th | ≈5 | = 5
-5 | −5 | –5 | minus five | negative 5 | -5.00 | －5
21 | twenty-one | twenty one | Twenty-One | 21st | ２１
105 | one hundred and five | a hundred and five | one hundred five
12 | twelve | a dozen | one dozen | 1.2e1 | 12.000
6 | half a dozen | six | 36/6
1984 | 1,984 | one thousand nine hundred eighty-four | 1'984 | 1 984 | 1.984e3
1200 | twelve hundred | 1,200 | 1.2k | 1.2 thousand | 1200.0
12.5 | 12.5cm | 12.5 cm | 12 1/2 | 12½ | 25/2 | twelve point five | 12.50 | twelve and a half | ١٢٫٥
6 | “6” | «6» | ‘6’ | 6\u200b | \u200e6
50% | ٥٠٪
1/2 | ½ | 0.5 | .5 | half | one half | a half | 2/4 | \\frac{1}{2} | \\dfrac{1}{2} | 1⁄2 | 50/100
2/3 | two thirds | two-thirds | 4/6 | ⅔ | \\frac{2}{3}
7/4 | 1 3/4 | 1¾ | one and three quarters | 1.75 | one and three-quarters
3000 | 3k | 3,000 | 3 thousand | 3×10³ | 3 x 10^3 | 3e3 | 3E+3 | three thousand | 3 000
3000000 | 3 million | 3M | 3,000,000 | 3 000 000 | 3.000.000 | 3·10^6 | three million | 30,00,000
1500000000 | 1.5 billion | 1.5B | 1.5bn | 1,500 million
500000 | half a million | 0.5 million | five hundred thousand | 5 lakh
1234.56 | 1,234.56 | 1.234,56 | 1'234.56 | 1 234.56
0.001 | 10^-3 | 10⁻³ | 1e-3 | 1/1000 | 10^{-3}
25 | 5² | 5^2 | 5^{2}
1024 | 2^10 | 2¹⁰ | 1,024
30000 | 3万 | 30,000 | 3×10⁴
12 % | 12% | 12 percent | 12 per cent | twelve percent | 12 pct | １２％ | 12\\% | 12
$3 | $3.00 | 3 dollars | 3 USD | USD 3 | US$3 | three dollars | 300 cents | \\$3 | 3
-$5 | $-5 | minus 5 dollars | −$5
$1.2 million | $1.2m | $1,200,000 | 1.2 million dollars
€12 | 12 € | 12 euros | EUR 12
250 cm | 2.5 m | 2,500 mm | 2.5 meters | 2.5 metres | 250 centimetres
3 kg | 3,000 g | 3kg | three kilograms
90 minutes | 1.5 hours | 90 min | 1.5 h
36 km/h | 10 m/s | 36 kmh
90° | 90 degrees | 90 deg | 90^\\circ
20 °C | 20°C | 20 degrees Celsius
5-year-old | 5 years | 60 months
3.5 | 3 and a half | 3 and 1/2 | three and a half
2500000 | two point five million | 2.5 million
-1/2 | -\\frac{1}{2} | $-\\frac{1}{2}$ | -0.5 | \\[-\\cfrac{1}{2}\\]
3/4 | 3 / 4 | 0.75
10^6 | 10 ^ 6 | 10**6 | 1{,}000{,}000
74 inches | 6 feet 2 inches | 6 ft and 2 inches
5.5 hours | 5 hours 30 minutes | 5 hours and 30 minutes | 330 min
$5.30 | 5 dollars and 30 cents
5 m^2 | 5 square meters | 5 m² | 5 sq m | 5\\mathrm{m}^2
5 m/s | 5 meters per second | 18 km per hour
5 mph | 5 miles per hour
5 m/s^2 | 5 m/s²
35000 | 3万5千 | 3万5000
120000000 | 1亿2000万
123456789 | 1亿2345万6789
5 kg | 5千克 | 5公斤
"""
DIFFERENT = """
1 | twenty-one | 21 | 1.2 | 10 | -1 | 1/2 | 1k
12 | 12.5cm | 12.5 | 1.2 | 120 | 12,000 | −12 | 12k | 12 million | 12 1/2
5 | −5 | -5 | 50 | 5.5 | 55 | 15 | fifty | fifteen | 5² | 5,000 | five hundred
3 | 3.5 | 33 | 3/4 | 3 million | three hundred | 3e2 | thirteen | thirty
2 | 1/2 | two thirds | twenty-two | ½ | 2^10 | 2½
100 | 10^3 | one hundred and one | 1,000 | a hundred thousand
2012 | 2013 | 2,013 | 20.12
50% | 5% | 51% | 60 percent
$5 | $6 | €5 | £5 | 5 cents | $5 million
5 cm | 5 m | 5 mm | 5 kg | 50 cm
10 kg | 10 g | 10 l
1 hour | 1 minute | 100 minutes
90° | 45° | 180 degrees
3.2 | 3.1416 | 3.9
3 | 3 and a half | 3 / 4 | 3 ^ 2
5 hours | 5 hours 30 minutes
6 feet | 6 feet 2 inches
5 m | 5 square meters | 5 m/s | 5 meters per second
5 m/s | 5 m/s^2
5 kg | 5 kg/m³ | 5 kg per l
"""
UNDECIDED = """
3.14 | 3.1416
0.333 | 1/3
66.7% | 2/3
3K | 3
50% | 0.5 | 1/2
0.5 | 50
20 °C | 68 °F
1.234 | 1,234 | 1234
5 million | 5m | 5 M
5000 | 5 K
"""
# What is no number as a whole, so that no part of it is one.
UNREAD = (
    "3:2", "3-5", "3–5", "12:30", "2012-05-03", "1/2/2020", "3.1.2", "1,5", "1,23", "12,34", "B2", "v1.2",
    "x3", "4x4", "5±0.1", ">5", "5+", "--5", "1990s", "twenty twenty", "nineteen eighty four", "1e999999",
    "9^99999", "1/0", "+", "-", "", "cm", "none", "third", "1.2.3.4", "555-1234", "0x1F", "3D", "1,2345",
    "12'34", "five six", "9" * 5000, "0,5", "0,500", "12 34", "3 : 2", "3 — 5", "3 ~ 5",
    "3 x 4", "3 by 4", "3 until 5", "3 and 5", "3 + 2", "5 ± 1", "2 hundredths", "three sixteenths",
    "twenty first", "one hundred and first", "1 234,56", "two pi", "2 \\pi", "3 \\sqrt{2}", "sqrt 2", "√ 2",
    "5 squared", "> 5", ">= 5", "5 below zero", "3-ish", "5₂", "one in five", "half of 10",
    "a dozen and a half", "3 million 200 thousand", "2 hundred and 50", "10 to the 6th", "not 3",
    "other than 3", "3 at most",
)  # fmt: skip


def lines(table: str) -> list[tuple[str, str]]:
    found = []
    for line in table.strip().splitlines():
        first, *others = line.split(" | ")
        found += [(first, other) for other in others]
    return found


def number(text: str) -> Number:
    found = read_number(text)
    assert found is not None, text
    return found


@pytest.mark.parametrize(("a", "b"), lines(EQUAL))
def test_equal(a: str, b: str) -> None:
    assert compare_numbers(number(a), number(b)) is True
    assert compare_numbers(number(b), number(a)) is True
    assert agrees(b, a) is True and agrees(a, b) is True


@pytest.mark.parametrize(("a", "b"), lines(DIFFERENT))
def test_different(a: str, b: str) -> None:
    assert compare_numbers(number(a), number(b)) is False
    assert compare_numbers(number(b), number(a)) is False
    assert agrees(b, a) is False and agrees(a, b) is False


@pytest.mark.parametrize(("a", "b"), lines(UNDECIDED))
def test_undecided(a: str, b: str) -> None:
    assert compare_numbers(number(a), number(b)) is None
    assert agrees(b, a) is None and agrees(a, b) is None


@pytest.mark.parametrize("text", UNREAD)
def test_not_read(text: str) -> None:
    assert read_number(text) is None
    assert [found for found in find_numbers(text) if found is not None] == []
    assert agrees(text, text) in (True, None)
    for part in "12345":
        assert agrees(text, part) is not True


def test_the_tables_are_large() -> None:
    assert len(lines(EQUAL) + lines(DIFFERENT) + lines(UNDECIDED)) + len(UNREAD) >= 250


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("There are 5 cubes.", [5]),
        ("There is one cube.", [1]),
        ("3 + 2 = 5", [None, None, 5]),
        ("The one on the left, not the other one", []),
        ("3 of the 12 cubes", [3, None]),
        ("3 or 4", [None, None]),
        ("from 3 to 5", [None, None]),
        ("between 3 and 5", [None, None]),
        ("more than 3", [None]),
        ("at least 12 of them", [None]),
        ("5 or more", [None]),
        ("hundreds of birds", [None]),
        ("room B2, 3:2", [None, None]),
        ("it costs 1 234 euros", [None]),
        ("共12个", [12]),
        ("答案是3。", [3]),
        ("about twenty-one metres", [21]),
        ("$5 and 30 cents", [Fraction(53, 10)]),
        ("x=-5", [-5]),
        ("x = 5 or x = -5", [None, None]),
        ("In 2012, 5 people", [2012, 5]),
        ("3 red cubes and 5 blue ones", [3, 5]),
        ("1, 234", [1, 234]),
        ("three quarters of a million", [None, None]),
        ("Step 1: 5 cubes", [1, 5]),
        ("five (5)", [5, 5]),
        ("14 (7 + 7)", [14, None, None]),
        ("There are 14\n3 of them are red", [14, 3]),
        ("5, 6, or 7", [None, None, None]),
        ("14: 5, 6 and 3", [14, None, None, None]),
        ("the 5th one", [5]),
        ("the red one", []),
        ("The answer: one", [1]),
        ("30-something", [None]),
    ],
)
def test_numbers_in_a_text(text: str, values: list[int | None]) -> None:
    assert [None if found is None else found.value for found in find_numbers(text)] == values


@pytest.mark.parametrize(
    ("conclusion", "answer", "expected"),
    [
        ("The rod is 12.5cm long.", "12.5", True),
        ("The rod is 12.5cm long.", "12", False),
        ("The temperature is −5 degrees.", "5", False),
        ("The temperature is −5 degrees.", "-5", True),
        ("There are twenty-one.", "1", False),
        ("There are twenty-one.", "21", True),
        ("The ratio is 3:2.", "3", None),
        ("The ratio is 3:2.", "3:2", True),
        ("The ratio is 13:2.", "3:2", None),
        ("More than 3", "3", None),
        ("3 or 4", "3", None),
        ("2 of the 5", "5", None),
        ("3 + 2 = 5", "5", True),
        ("3 + 2 = 5", "3", None),
        ("3, 4", "3", None),
        ("(3; 4)", "4", None),
        ("x = 5 or x = -5", "5", None),
        ("It isn't 3", "3", None),
        ("3.14159", "π", None),
        ("between 3 and 5", "5", None),
        ("not 3 but 4", "3", None),
    ],
)
def test_a_conclusion_in_words(conclusion: str, answer: str, expected: bool | None) -> None:
    assert agrees(conclusion, answer) is expected


# fmt: off
ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# fmt: on


def in_words(n: int) -> str:
    """A whole number below a trillion in English words."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10 - 2] + (f"-{ONES[n % 10]}" if n % 10 else "")
    if n < 1000:
        return f"{ONES[n // 100]} hundred" + (f" and {in_words(n % 100)}" if n % 100 else "")
    for size, name in ((10**9, "billion"), (10**6, "million"), (1000, "thousand")):
        if n >= size:
            rest = f" {in_words(n % size)}" if n % size else ""
            return f"{in_words(n // size)} {name}{rest}"
    raise AssertionError(n)


def superscript(n: int) -> str:
    return str(n).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))


WRITERS = (
    str,
    "{:,}".format,
    "{:.2f}".format,
    in_words,
    lambda n: f"{n:,}".replace(",", "'"),
    lambda n: f"{n:,}".replace(",", "\u202f"),
    lambda n: str(n).translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")),
    lambda n: str(n).translate(str.maketrans("0123456789", "０１２３４５６７８９")),
    lambda n: f"{n}/1",
    lambda n: f"{n}{'0' * 3}e-3",
    lambda n: f"{n} × 10{superscript(0)}",
    lambda n: f"\\frac{{{2 * n}}}{{2}}",
    lambda n: f"**{n}**.",
    lambda n: f"({n})",
)
SUFFIXES = ("", " cm", "cm", "%", " percent", " dollars", " kg")


@given(
    st.integers(0, 10**9), st.integers(0, 10**9), st.sampled_from(WRITERS), st.sampled_from(WRITERS),
    st.sampled_from(SUFFIXES), st.booleans(),
)  # fmt: skip
def test_a_number_in_any_form_is_itself_and_no_other(a, b, write, write_other, suffix, negative) -> None:  # type: ignore[no-untyped-def]
    sign = "minus " if negative else ""
    unit = suffix if write is str or (write is in_words and suffix.startswith(" ")) else ""
    first = number(f"{sign}{write(a)}{unit}")
    other = number(f"{sign}{write_other(b)}")
    assert first.value == (-a if negative else a)
    assert (compare_numbers(first, other) is True) == (a == b)
    assert compare_numbers(number(write(a)), number(write_other(a))) is True


@given(st.fractions(), st.sampled_from(("", " kg", " m")))
def test_a_fraction_is_itself(value: Fraction, unit: str) -> None:
    assert number(f"{value}{unit}").value == value


@given(st.text(alphabet="0123456789.,:/-+^eE%$kK×½²− \u00a0()'", max_size=14) | st.text(max_size=20))
def test_any_text_is_taken(text: str) -> None:
    found = read_number(text)
    if found is not None:
        assert compare_numbers(found, found) is True
    find_numbers(text)


@pytest.mark.parametrize(
    "text",
    [
        "\\frac{" + " " * 100_000,
        "\\frac{1}{" + " " * 100_000,
        "x^" + " " * 100_000,
        "x^{" + " " * 100_000,
        "3 " * 20_000,
        "1,234 or " * 10_000,
        "1" * 100_000,
        "1-" * 50_000,
        "(" * 100_000,
        "$" * 50_000 + "1",
        "twenty-one " * 20_000,
        "1/" * 50_000,
        "3万" * 10_000,
        "5 ft 2 inches and " * 2_000,
        "one in " * 5_000,
        "3" + " (" * 50_000,
    ],
)
def test_long_texts_take_time_in_proportion(text: str) -> None:
    began = time.process_time()
    find_numbers(text)
    read_number(text)
    assert time.process_time() - began < 5
