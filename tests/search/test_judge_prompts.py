import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from playing import tagged

from llava_cot import ask, ask_sync
from llava_cot.errors import DataError
from llava_cot.models.base import Prompt
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search import judge_prompts
from llava_cot.search.judge_prompts import (
    JudgePrompts,
    default_prompts,
    load_judge_prompts,
    parse_check,
    parse_choice,
)
from llava_cot.search.resources import Resources

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


# Other wording, from a file.

OTHER = """
criteria:
  answer: Which answer would a teacher mark as right?
reply_form: "\\n\\nExplain, then end with WINNER=A or WINNER=B."
choice: "WINNER="
choices: [A, B]
verdict: "MARK="
verdicts: [pass, fail]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.yaml"
    path.write_text(OTHER, encoding="utf-8")
    return path


def test_a_file_replaces_what_it_has_and_leaves_the_rest(file: Path) -> None:
    other = load_judge_prompts(file)
    assert other.criteria == CRITERIA | {"answer": "Which answer would a teacher mark as right?"}
    changed = {"criteria", "reply_form", "choice", "choices", "verdict", "verdicts"}
    assert other.model_dump(exclude=changed) == PROMPTS.model_dump(exclude=changed)
    text = other.duel("answer", "QUE", {}, "AAA", "BBB")
    assert text.startswith("Which answer would a teacher mark as right?\nQuestion:\nQUE")
    assert text.endswith("BBB\n\nExplain, then end with WINNER=A or WINNER=B.")


def test_a_copy_of_the_default_changes_nothing() -> None:
    shipped = Path(judge_prompts.__file__).with_suffix(".yaml")
    assert load_judge_prompts(shipped) == PROMPTS


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("The first is wrong. WINNER=B", 2),
        ("winner=a", 1),
        ("**WINNER=** **A**.", 1),
        ("WINNER=A? No. WINNER=B.", 2),
        ("İİİ: WINNER=B", 2),
        ("WINNER=AB", None),
        ("WINNER=", None),
        ("A", None),
        ("I choose response 1.", None),
        ("", None),
    ],
)
def test_a_reply_in_another_form_is_read(file: Path, reply: str, choice: int | None) -> None:
    assert load_judge_prompts(file).parse_choice(reply) == choice


@pytest.mark.parametrize(
    ("reply", "correct"),
    [("MARK=pass", True), ("It is MARK=Fail.", False), ("Verdict: correct.", None), ("MARK=passed", None)],
)
def test_a_check_in_another_form_is_read(file: Path, reply: str, correct: bool | None) -> None:
    assert load_judge_prompts(file).parse_check(reply) is correct


@given(st.one_of(st.text(), st.lists(words).map(" ".join)))
def test_replies_in_the_default_form_are_read_as_ever_whatever_else_is_changed(reply: str) -> None:
    criteria = JudgePrompts(**PROMPTS.model_dump() | {"criteria": {}, "reply_form": "Choose."})
    for prompts in (PROMPTS, criteria):
        assert prompts.parse_choice(reply) == parse_choice(reply)
        assert prompts.parse_check(reply) is parse_check(reply)


@given(
    st.one_of(st.text(), st.lists(words).map(" ".join)),
    st.text(min_size=1),
    st.lists(st.text(min_size=1), min_size=2, max_size=2),
)
def test_no_reply_raises_in_any_form(reply: str, choice: str, choices: list[str]) -> None:
    try:
        prompts = JudgePrompts(**PROMPTS.model_dump() | {"choice": choice, "choices": choices})
    except ValueError:
        first, second = (text.strip().lower() for text in choices)
        assert not choice.strip() or not first or not second or first == second
        return
    # Where the lead is part of what is around it, what is the lead is a matter of taste.
    assume(not any(choice.strip().lower() in text.lower() for text in (reply, *choices)))
    assert prompts.parse_choice(reply) in (1, 2, None)
    for number, option in enumerate(choices, 1):
        assert prompts.parse_choice(f"{reply}\n{choice}{option}") in (number, None)


def script(prompt: Prompt, rng: random.Random) -> str:
    """Writes whole answers, and in duels prefers the second by the other form."""
    if "WINNER" in prompt.messages[0].text:
        return "The second is better. WINNER=B"
    return f"{tagged('reasoning', str(rng.random()))} {tagged('conclusion', '2')}"


async def test_the_self_judge_uses_the_wording_of_the_file(file: Path) -> None:
    model = ScriptedModel(script)
    given = Resources(judge_prompts=load_judge_prompts(file))
    trace = await ask(model, None, "How many?", method="best-of-n", n=4, resources=given)
    assert [(v.decided_by, v.winner == v.b, v.reply) for v in trace.verdicts] == [
        ("choice", True, "The second is better. WINNER=B")
    ] * 3
    duels = [call.prompt.messages[0].text for call in model.calls if "WINNER" in call.prompt.messages[0].text]
    assert len(duels) == 3 and all(duel.startswith("Which answer would a teacher") for duel in duels)
    trace = await ask(ScriptedModel(script), None, "How many?", method="best-of-n", n=4)
    assert {verdict.decided_by for verdict in trace.verdicts} == {"seed"}


def test_the_judge_logits_scores_the_options_of_the_file(file: Path) -> None:
    given = Resources(judge_prompts=load_judge_prompts(file))
    for method, prefix, options in (
        ("best-of-n", "WINNER=", ("A", "B")),
        ("weighted-best-of-n", "MARK=", ("pass", "fail")),
    ):
        model = ScriptedModel(script, lambda prompt, options: [-1.0, 0.0])
        ask_sync(model, None, "How many?", method=method, judge="logits", n=2, resources=given)
        assert {(prompt.prefix, chosen) for prompt, chosen in model.choices} == {(prefix, options)}


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("[", "", "is not YAML"),
        ("", "", "has no fields"),
        ("# nothing yet", "", "has no fields"),
        ("choice: A\nchoices: [A, B]\nchoice: B", "", "the key choice is there twice"),
        ("criteria:\n  answer: A\n  answer: B", "", "the key answer is there twice in what begins in line 2"),
        ('question: "\\ud800"', "", "the text in line 1 has half a character"),
        ("choice: '  '", "choice", "give some text"),
        ("- criteria", "", "has no fields; write those that differ"),
        ("Which is better?", "", "has no fields"),
        ("criterion: x", "criterion", "there is no such field"),
        ("criteria: x", "criteria", "dictionary"),
        ("criteria: {caption: 3}", "criteria.caption", "string"),
        ("criteria: {caption: }", "criteria.caption", "string"),
        ("response_1:", "response_1", "string"),
        ("reply_form: [a]", "reply_form", "string"),
        ("choice: ''", "choice", "give some text"),
        ("choices: [A]", "choices[1]", "required"),
        ("choices: [A, B, C]", "choices", "at most 2 items"),
        ("choices: [1, 2]", "choices[0]", "string"),
        ("choices: [A, ' a']", "choices", "two different texts"),
        ("choices: ['', B]", "choices", "two different texts"),
        ("verdicts: [yes, no]", "verdicts", "YAML reads yes, no, true, false, on and off as Booleans; put"),
        ("verdicts: [right, right]", "verdicts", "two different texts"),
        ("other_hint: [a]", "other_hint[1]", "required"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_the_field(
    tmp_path: Path, text: str, field: str, words: str
) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        load_judge_prompts(path)
    told = str(caught.value)
    assert told.startswith(f"the file of judge prompts {path}") and "\n" not in told
    assert not field or told.startswith(f"the file of judge prompts {path}: {field}: ")


def test_a_missing_file_and_one_of_bytes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file of judge prompts"):
        load_judge_prompts(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match=r"bytes\.yaml (cannot be read|is not YAML)"):
        load_judge_prompts(tmp_path / "bytes.yaml")


@pytest.mark.parametrize(
    ("options", "reply", "choice"),
    [
        (("A", "B"), "Winner: A", 1),
        (("A", "B"), "**Winner:** B.", 2),
        (("A", "B"), 'Winner: "A"', 1),
        (("A", "B"), "Winner:\n\nB", 2),
        (("A", "B"), "Winner: {A}", 1),
        (("A", "B"), "Winner: A\nWinner: B", 2),
        (("A", "B"), "Winner: A and a good one", 1),
        (("A", "B"), "Winner: B. Not Winner: A", 2),
        (("A", "B"), "Winner: A or B", None),
        (("A", "B"), "Winner: A/B", None),
        (("A", "B"), "Winner: A and B", None),
        (("A", "B"), "'Winner: A' or 'Winner: B'", None),
        (("A", "B"), "Not Winner: A", None),
        (("A", "B"), "It is not Winner: A", None),
        (("A", "B"), "Winner: A. Winner:", None),
        (("A", "B"), "Winner: Assistant A", None),
        (("Assistant A", "Assistant B"), "Winner: Assistant B", 2),
        (("Assistant A", "Assistant B"), "Winner: B", None),
        (("*A", "_B"), "Winner: *A", 1),
        (("*A", "_B"), "Winner: _B", 2),
        (("*A", "A"), "Winner: *A", 1),
        (("A", "A+"), "Winner: A+", 2),
        (("yes", "no"), "Winner: yes/no", None),
        (("yes", "no"), "Winner: no, yes was wrong", 2),
        (("1", "2"), "Winner: 1.5", None),
        (("1", "2"), "Winner: 12", None),
    ],
)
def test_a_custom_form_is_read_as_carefully_as_the_default(
    options: tuple[str, str], reply: str, choice: int | None
) -> None:
    prompts = JudgePrompts(**PROMPTS.model_dump() | {"choice": "Winner:", "choices": options})
    assert prompts.parse_choice(reply) == choice
    checks = JudgePrompts(**PROMPTS.model_dump() | {"verdict": " Winner: ", "verdicts": options})
    assert checks.parse_check(reply) is (None if choice is None else choice == 1)
