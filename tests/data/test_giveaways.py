"""Words of the teacher's instructions and refusals are found; what a solver may say is not."""

import pytest

from llava_cot.core.stages import parse, render
from llava_cot.data.checks import giveaways
from llava_cot.scenes.items import make_items


def leaks(response: str, question: str) -> list[tuple[str | None, str]]:
    return giveaways.leaks(parse(response), question)


def refusal(response: str, answer: str | None = None) -> str | None:
    return giveaways.refusal(parse(response), answer)


def response_of(reasoning: str = "I count.", conclusion: str = "3") -> str:
    return render(
        {"summary": "I look.", "caption": "Cubes.", "reasoning": reasoning, "conclusion": conclusion}
    )


@pytest.mark.parametrize(
    "text",
    [
        "The standard answer is 3.",
        "This matches the ground truth answer.",
        "According to the provided answer, there are 3.",
        "As given in the hint, the cube is red.",
        "The hints say that it is red.",
        "Based on the provided hint, I count.",
        "The correct answer provided is 3.",
        "Since the answer is given as 3, I count.",
        "The expected answer is 3.",
        "I was told the answer, which is 3.",
        "Provided answer: 3.",
        "Hints suggest that it is red.",
        "This follows the provided rationale.",
    ],
)
def test_a_leak_is_found_in_its_stage(text: str) -> None:
    assert [stage for stage, _ in leaks(response_of(f"First I look. {text}"), "How many?")] == ["reasoning"]


@pytest.mark.parametrize(
    "text",
    [
        "The correct answer is B.",
        "Among the given answer choices, B fits.",
        "None of the provided answer options is larger.",
        "There is a hint of red in the sky.",
        "The given information is enough to answer.",
        "The answer is given by 3 + 4.",
        "By the standard form of the equation, x is 3.",
        "The answer sheet on the desk is white.",
        "As instructed, I subtract the cubes.",
        "The golden answering machine stands left.",
        "Any given answer would be wrong.",
        "The smile hints at joy, and the shadows hint that it is noon.",
        "The curve of the ground truth lies above.",
    ],
)
def test_what_a_solver_may_say_is_no_leak(text: str) -> None:
    assert leaks(response_of(text), "How many?") == []


def test_words_of_the_question_itself_are_no_leak() -> None:
    response = response_of("The hint says to give an integer.")
    assert leaks(response, "Hint: give an integer. What does the hint mean?") == []
    assert leaks(response, "How many?") != []


def test_a_leak_in_text_without_stages() -> None:
    assert leaks("The standard answer is 3.", "How many?") == [(None, "standard answer")]


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, I can't help with that.",
        "I\u2019m sorry, but I cannot identify people.",
        "Sorry, I can't see the picture.",
        "I cannot determine the answer.",
        "As an AI language model, I have no eyes.",
        "I am unable to assist with this.",
        "Unfortunately, I cannot see it.",
    ],
)
def test_a_refusal_is_found_in_a_conclusion_and_in_bare_text(text: str) -> None:
    assert refusal(response_of(conclusion=text))
    assert refusal(text)
    assert refusal(text, answer=text) is None


@pytest.mark.parametrize(
    "text",
    [
        "It cannot be determined.",
        "The sign says: I'm sorry, I can't help.",
        "No",
        "I can see 3.",
        "Sorry (a game)",
    ],
)
def test_what_is_no_refusal(text: str) -> None:
    assert refusal(response_of(conclusion=text)) is None


def test_the_teacher_of_scenes_gives_nothing_away() -> None:
    for item in make_items("train", 5, 300):
        response = render(item.stages)
        assert leaks(response, item.question.text) == []
        assert refusal(response, item.answer) is None
