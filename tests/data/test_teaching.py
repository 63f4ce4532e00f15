"""What a teacher is shown, and when two answers are the same beyond doubt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from llava_cot.core.question import load_image
from llava_cot.data.annotation.teachers import judge_prompt, prompts_hash, same, write_prompt
from llava_cot.data.record import Turn

PICTURE = load_image(Image.new("RGB", (4, 4)))
CHOICE = Turn("Which is it?", "B", ("a cube", "a ball"), hints="It rolls.")


def test_the_teacher_sees_picture_question_options_answer_hints_and_earlier_turns() -> None:
    prompt = write_prompt(CHOICE, [("How many?", "<SUMMARY> Two. </SUMMARY>")], (PICTURE,))
    assert [(m.role, len(m.images)) for m in prompt.messages] == [("user", 1), ("assistant", 0), ("user", 0)]
    assert [m.text for m in prompt.messages[:2]] == ["How many?", "<SUMMARY> Two. </SUMMARY>"]
    text = prompt.messages[-1].text
    for part in ("Which is it?\nA. a cube\nB. a ball", "Standard answer:\nB. a ball", "Hints:\nIt rolls."):
        assert part in text
    assert "letter of the right option alone" in text
    plain = write_prompt(Turn("Why?", "So."), (), (PICTURE,)).messages
    assert [len(message.images) for message in plain] == [1]
    assert "int" not in plain[0].text.split("Standard answer:")[1] and "letter" not in plain[0].text


def test_the_judge_sees_the_three_texts_and_no_picture() -> None:
    [message] = judge_prompt(CHOICE, "It is a ball").messages
    assert message.images == ()
    assert "Standard answer:\nB. a ball\n\nGiven answer:\nIt is a ball" in message.text
    assert "It rolls" not in message.text


def test_the_hash_is_that_of_the_words() -> None:
    assert prompts_hash() == prompts_hash() and len(prompts_hash()) == 12


@pytest.mark.parametrize(
    ("conclusion", "answer"),
    [("Yes.", "yes"), ("No", "no"), (" 5 ", "5"), ("**5**", "5"), ("(5)", "5"), ('"left side"', "Left side"),
     ("$x^2$", "x^2"), ("A cat.", "a cat"), ("[3, 4]", "[3, 4]")],
)  # fmt: skip
def test_what_is_the_same(conclusion: str, answer: str) -> None:
    assert same(conclusion, Turn("?", answer))


@pytest.mark.parametrize(
    ("conclusion", "answer"),
    [(".5", "5"), ("5'", "5"), ('5"', "5"), ("-5", "5"), ("Aa", "aa"), ("AB", "ab"), ("5 cm", "5"),
     ("1,000", "1000"), ("a", "A"), ("5%", "5"), ("", "5"), ("mW", "MW")],
)  # fmt: skip
def test_what_only_a_judge_can_say(conclusion: str, answer: str) -> None:
    assert not same(conclusion, Turn("?", answer))


@pytest.mark.parametrize(
    "conclusion", ["B", "b", "(B)", "B.", "B)", "B. a ball", "B. A ball.", "**B**", "B: a ball"]
)
def test_an_option_by_its_letter(conclusion: str) -> None:
    assert same(conclusion, CHOICE)


@pytest.mark.parametrize("conclusion", ["A", "B. a cube", "A. a ball", "AB", "a ball", "B or A"])
def test_another_option(conclusion: str) -> None:
    assert not same(conclusion, CHOICE)


@given(st.text())
def test_an_answer_is_itself(answer: str) -> None:
    assert same(answer, Turn("?", answer))


@given(st.decimals(allow_nan=False, allow_infinity=False), st.decimals(allow_nan=False, allow_infinity=False))
def test_different_numbers_are_never_the_same(a: object, b: object) -> None:
    if a != b:
        assert not same(str(a), Turn("?", str(b)))
