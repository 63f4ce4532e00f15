import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava_cot.search.judge_prompts import default_prompts, parse_check, parse_choice

PROMPTS = default_prompts()
CRITERIA = PROMPTS.criteria
HINT = {"summary": "SUM", "caption": "CAP", "reasoning": "REA"}


def earlier_than(stage: str) -> dict[str, str | None]:
    return {name: text for name, text in HINT.items() if list(HINT).index(name) < list(CRITERIA).index(stage)}


@pytest.mark.parametrize(
    ("stage", "shown"),
    [("summary", []), ("caption", []), ("reasoning", ["CAP"]), ("conclusion", ["CAP", "REA"])],
)
def test_a_stage_of_the_paper_is_judged_with_the_papers_hint(stage: str, shown: list[str]) -> None:
    prompt = PROMPTS.duel(stage, "QUE", earlier_than(stage), "AAA", "BBB")
    assert [text for text in HINT.values() if text in prompt] == shown
    assert CRITERIA[stage] in prompt


def test_a_custom_stage_is_named_and_sees_all_earlier_stages() -> None:
    prompt = PROMPTS.duel("verify", "QUE", {"summary": "SUM", "plan": "PLA", "draft": None}, "A", "B")
    assert all(text in prompt for text in ("verify", "SUM", "plan", "PLA"))
    assert "draft" not in prompt


def test_what_games_share_comes_first_and_the_responses_in_the_order_given() -> None:
    one = PROMPTS.duel("conclusion", "QUE", HINT, "AAA", "BBB")
    two = PROMPTS.duel("conclusion", "QUE", HINT, "CCC", "DDD")
    assert one.index("QUE") < one.index("CAP") < one.index("REA") < one.index("AAA") < one.index("BBB")
    assert one[: one.index("AAA")] == two[: two.index("CCC")]


@pytest.mark.parametrize("stage", [*CRITERIA, "verify"])
def test_every_constant_part_is_made_of_the_constant_pieces(stage: str) -> None:
    hint = {"\0": "\0", "caption": "\0", "reasoning": "\0", "sentence": "\0"}
    text = PROMPTS.duel(stage, "\0", hint, "\0", "\0").replace(f":\n{stage}", ":\n\0")
    for part in text.split("\0"):
        assert _made_of_pieces(part), part


def test_the_check_shows_no_more_than_question_caption_and_reasoning() -> None:
    for text in (
        PROMPTS.reasoning_check("\0", "\0", "\0"),
        PROMPTS.reasoning_check("\0", None, "\0"),
        PROMPTS.reasoning_check("\0", " ", "\0"),
    ):
        assert all(_made_of_pieces(part) for part in text.split("\0"))
    assert "Caption" not in PROMPTS.reasoning_check("QUE", None, "REA")
    assert "CAP" in PROMPTS.reasoning_check("QUE", "CAP", "REA")


def _made_of_pieces(part: str) -> bool:
    while part:
        piece = next((piece for piece in PROMPTS.constant_pieces() if part.startswith(piece)), None)
        if piece is None:
            return False
        part = part[len(piece) :]
    return True


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("Since the count is right, I choose response 1.", 1),
        ("Since the count is right, I choose response 2.", 2),
        ("I choose Response [1].", 1),
        ("I choose **Response 2**", 2),
        ("**I CHOOSE RESPONSE:** 1", 1),
        ("I choose `response 2`", 2),
        ("I chose the response #2", 2),
        ("**Response 2**", 2),
        ("Both are good.\n\nFinal answer: Response 1", 1),
        ("response: 2", 2),
        ("Response [1]", 1),
        ("2", 2),
        ("I choose response 1. No, on reflection I choose response 2.", 2),
        ("I would not choose response 1; I choose response 2.", 2),
        ("I choose response 2. I do not choose response 1.", 2),
        ("Since response 1 is wrong, I choose response 2 over response 1.", 2),
        ("Since 1 is less than 2, I choose response 1", 1),
        ("I choose resp", None),
        ("I choose response", None),
        ("Since response 1 is wrong,", None),
        ("Response 1 is good. Response 2 is good.", None),
        ("I choose response 1/2.", None),
        ("I choose response 1 or 2.", None),
        ("I choose response 1 and response 2.", None),
        ("I choose response 12.", None),
        ("I choose response 3.", None),
        ("I cannot choose response 1", None),
        ("", None),
        (PROMPTS.reply_form, None),
    ],
)
def test_a_reply_chooses(reply: str, choice: int | None) -> None:
    assert parse_choice(reply) == choice
    assert parse_choice(reply.upper()) == choice


@pytest.mark.parametrize(
    ("reply", "correct"),
    [
        ("All steps hold. Verdict: correct.", True),
        ("Step 2 is wrong. Verdict: incorrect.", False),
        ("I see nothing incorrect. Verdict: correct.", True),
        ("It looks correct at first. Verdict: incorrect", False),
        ("**Verdict:** **Correct**", True),
        ("The verdict is not correct.", False),
        ("Verdict: correct. But no: verdict: incorrect.", False),
        ("Incorrect.", False),
        ("So it is\nCorrect", True),
        ("Incorrect. Verdict:", None),
        ("it is correct in parts", None),
        ("Verdict: correct/incorrect", None),
        ("", None),
        (PROMPTS.check_form, None),
    ],
)
def test_a_check_says(reply: str, correct: bool | None) -> None:
    assert parse_check(reply) is correct
    assert parse_check(reply.lower()) is correct


REPLY_WORDS = "I choose response 1 2 [ ] ** . , not or / Since verdict : correct incorrect is than the"
words = st.sampled_from([*REPLY_WORDS.split(), "\n"])


@given(st.one_of(st.text(), st.lists(words).map(" ".join)))
def test_no_reply_raises(reply: str) -> None:
    assert parse_choice(reply) in (1, 2, None)
    assert parse_check(reply) in (True, False, None)


@given(reason=st.lists(words).map(" ".join), number=st.sampled_from((1, 2)))
def test_the_asked_for_sentence_is_understood_after_any_words(reason: str, number: int) -> None:
    assert parse_choice(f"{reason}.\nSince it is better, I choose response {number}.") == number


@pytest.mark.parametrize("piece", ["choose response ", "choose ", "verdict: ", "*", " ", "not ", "1 or "])
def test_long_replies_are_read_in_linear_time(piece: str) -> None:
    started = time.process_time()
    for text in (piece * 50_000, "choose response" + piece * 50_000, "verdict" + piece * 50_000):
        parse_choice(text)
        parse_check(text)
    assert time.process_time() - started < 2
