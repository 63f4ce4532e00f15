"""When a conclusion gives the standard answer, contradicts it, or cannot be compared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava_cot.core.answer_matching import agrees, canonical, chosen_option, option_of
from llava_cot.scenes.items import make_items

OPTIONS = ("red cube", "cube", "blue ball")
NUMBERS = ("2", "3", "4")


@pytest.mark.parametrize(
    ("conclusion", "answer", "options"),
    [
        ("B", "B", OPTIONS),
        ("(B)", "B", OPTIONS),
        ("**B**", "B", OPTIONS),
        ("b.", "b.", ()),
        ("(b)", "B", OPTIONS),
        ("b) cube", "B", OPTIONS),
        ("B。", "B", OPTIONS),
        ("Ｂ", "B", OPTIONS),
        ("B、cube", "B", OPTIONS),
        ("答案是B。", "B", OPTIONS),
        ("选B", "B", OPTIONS),
        ("female", "B", ("male", "female")),
        ("She is female.", "B", ("male", "female")),
        ("male", "A", ("male", "female")),
        ("12", "B", ("1", "12", "2")),
        ("12 cm", "B", ("1 cm", "12cm", "2cm")),
        ("cube", "B", OPTIONS),
        ("A cube", "B", OPTIONS),
        ("The answer is a cube.", "B", OPTIONS),
        ("The answer is B.", "B", OPTIONS),
        ("B. cube", "B", OPTIONS),
        ("B", "cube", OPTIONS),
        ("I see a blue ball", "C", OPTIONS),
        ("three", "B", NUMBERS),
        ("3.0", "B", NUMBERS),
        ("Therefore, option C is correct", "C", OPTIONS),
        ("3", "3", ()),
        ("three", "3", ()),
        ("3.0", "3", ()),
        ("$3", "3", ()),
        ("$1,000.00", "1000", ()),
        ("50 %", "50", ()),
        ("0.5", "1/2", ()),
        ("3 million", "3000000", ()),
        ("There are 3 cubes and 2 balls.", "3", ()),
        ("Yes, there are 3.", "yes", ()),
        ("No, there is not a red cube.", "no", ()),
        ("It is grey.", "gray", ()),
        ("The title is “War and Peace”.", "War and Peace", ()),
        ("TT", "TT", ()),
    ],
)
def test_the_answer_is_given(conclusion: str, answer: str, options: tuple[str, ...]) -> None:
    assert agrees(conclusion, answer, options) is True


@pytest.mark.parametrize(
    ("conclusion", "answer", "options"),
    [
        ("A", "B", OPTIONS),
        ("D", "B", OPTIONS),
        ("red cube", "B", OPTIONS),
        ("(A) cube", "B", OPTIONS),
        ("The answer is (C)", "B", OPTIONS),
        ("B. blue ball", "B", OPTIONS),
        ("I see a blue ball", "A", OPTIONS),
        ("4", "B", NUMBERS),
        ("12", "A", ("1", "3", "5", "7")),
        ("twenty-one", "A", ("1", "2")),
        ("female", "A", ("male", "female")),
        ("C", "B", ()),
        ("4", "3", ()),
        ("33", "3", ()),
        ("2012", "2013", ()),
        ("3.2", "3.1416", ()),
        ("There are four.", "3", ()),
        ("3.5", "3", ()),
        ("-3", "3", ()),
        ("Yes", "no", ()),
        ("No, there are 3.", "yes", ()),
        ("blue", "red", ()),
        ("The one on the left", "right", ()),
        ("42", "cube", ()),
    ],
)
def test_the_answer_is_contradicted(conclusion: str, answer: str, options: tuple[str, ...]) -> None:
    assert agrees(conclusion, answer, options) is False


@pytest.mark.parametrize(
    ("conclusion", "answer", "options"),
    [
        ("B or C", "B", OPTIONS),
        ("12 of them", "A", ("1", "2")),
        ("Basic", "B", OPTIONS),
        ("b", "A", ("b", "a")),
        ("It is not the cube.", "B", OPTIONS),
        ("a sphere", "B", OPTIONS),
        ("sofa", "couch", ()),
        ("It is not red", "red", ()),
        ("red or blue", "red", ()),
        ("many", "3", ()),
        ("2", "two of them are 3", ()),
        ("Tt", "TT", ()),
        ("3.14", "3.1416", ()),
        ("50 %", "0.5", ()),
        ("A dog runs over a field.", "The picture shows an animal outdoors.", ()),
        ("", "3", ()),
        ("3", "", ()),
    ],
)
def test_words_do_not_tell(conclusion: str, answer: str, options: tuple[str, ...]) -> None:
    assert agrees(conclusion, answer, options) is None


def test_of_scenes_the_teacher_agrees_and_another_conclusion_contradicts() -> None:
    items = list(make_items("train", 3, 300))
    assert all(agrees(item.stages["conclusion"], item.answer, item.question.options) for item in items)
    by_type: dict[str, set[str]] = {}
    for item in items:
        if not item.question.options:
            by_type.setdefault(item.question.type, set()).add(item.answer)
    wrong = [
        agrees(other, item.answer)
        for item in items
        if not item.question.options
        for other in by_type[item.question.type] - {item.answer}
    ]
    assert wrong and True not in wrong
    assert wrong.count(None) < len(wrong) / 2


@given(st.text(max_size=40), st.text(max_size=20), st.lists(st.text(max_size=8), max_size=4))
def test_any_text_is_taken(conclusion: str, answer: str, options: list[str]) -> None:
    assert agrees(conclusion, answer, options) in (True, False, None)


@given(st.integers(-10000, 10000), st.integers(-10000, 10000))
def test_numbers_agree_by_value_alone(given: int, expected: int) -> None:
    agreement = agrees(f"{given:,}.0", str(expected))
    assert (agreement is True) == (given == expected)
    assert agreement is not None


COLORS = ("red", "blue", "green", "yellow")
COUNTS = ("1", "2", "3", "12")


@pytest.mark.parametrize(
    ("conclusion", "options", "chosen"),
    [
        ("\\boxed{B}", COLORS, 1),
        ("\\boxed{\\text{B}}", COLORS, 1),
        ("**Answer:** B", COLORS, 1),
        ("The answer is: B", COLORS, 1),
        ("answer: b", COLORS, 1),
        ("option (b)", COLORS, 1),
        ("answer: a", COLORS, 0),
        ("the answer is a blue one", COLORS, 1),
        ("Ans = B", COLORS, 1),
        ("B is correct", COLORS, 1),
        ("It is B.", COLORS, 1),
        ("Therefore, B.", COLORS, 1),
        ("A is incorrect, B is right", COLORS, 1),
        ("(B) because (A) is wrong", COLORS, 1),
        ("Not (B)", COLORS, None),
        ("(A)(B)", COLORS, None),
        ("(A) or (B)", COLORS, None),
        ("A. B", COLORS, None),
        ("-1", COUNTS, None),
        ("minus 1", COUNTS, None),
        ("2 and a half", COUNTS, None),
        ("three of the 12", COUNTS, 2),
        ("Room 12B", COUNTS, None),
        ("1 or 2", COUNTS, None),
        ("There are twelve.", COUNTS, 3),
        ("C++", ("C", "C++", "C#"), 1),
        ("A-", ("A+", "A", "A-"), 2),
        ("No, there is not", ("yes", "no"), 1),
        ("Nothing", ("yes", "no"), None),
        ("这是猫。", ("猫", "狗"), 0),
        ("熊猫", ("猫", "狗"), None),
        ("这是猫头鹰", ("猫", "狗"), None),
    ],
)
def test_the_chosen_option(conclusion: str, options: tuple[str, ...], chosen: int | None) -> None:
    assert chosen_option(conclusion, options) == chosen


@pytest.mark.parametrize(
    ("spellings", "options"),
    [
        (("3", "3.0", "three", "**3**", "\\boxed{3}", "The answer is 3.", "Final answer: three", "= 3"), ()),
        (("3 cm", "30 mm", "0.03 meters", "The answer is 3cm"), ()),
        (("$3", "3 dollars", "300 cents"), ()),
        (("B", "(B)", "**B**", "blue", "\\boxed{B}", "The answer is B", "It is blue."), COLORS),
        (("a cat", "Cat.", "The answer is a cat"), ()),
    ],
)
def test_votes_that_mean_the_same_have_one_spelling(
    spellings: tuple[str, ...], options: tuple[str, ...]
) -> None:
    assert len({canonical(spelling, options) for spelling in spellings}) == 1
    assert canonical("31", options) not in {canonical(spelling, options) for spelling in spellings}


@pytest.mark.parametrize("answer", ["B", "b", "(b)", "**B**", "\\boxed{B}", "blue", "B. blue"])
def test_the_option_of_a_standard_answer(answer: str) -> None:
    assert option_of(answer, COLORS) == 1
    assert option_of("b", ("b", "a")) == 0 and option_of("E", COLORS) is None
