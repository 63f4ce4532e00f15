import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import QUESTION, continuation, new_search

from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT, Stage, StageFormat, make_format, parse, validate
from llava_cot.search.restaging import (
    answer_form,
    description_stage,
    keep_as,
    plain,
    read_answer,
    thought_stage,
)

FINAL_FIRST = StageFormat((Stage("answer", "<a>", "</a>"), Stage("why", "<w>", "</w>")), final="answer")


@pytest.mark.parametrize(
    ("fmt", "description", "thought"),
    [
        (LLAVA_COT, "caption", "reasoning"),
        (make_format("think,answer"), None, "think"),
        (make_format("look,think,answer"), "look", "think"),
        (make_format("reasoning,check,answer"), None, "reasoning"),
        (make_format("caption,plan,think,answer"), "caption", "think"),
        (make_format("answer"), None, None),
        (FINAL_FIRST, None, None),
    ],
)
def test_where_a_description_and_a_thought_belong(
    fmt: StageFormat, description: str | None, thought: str | None
) -> None:
    assert (description_stage(fmt), thought_stage(fmt)) == (description, thought)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("I count. The answer is 2.", "2"),
        ("I count.\nSo the final answer is: **3.14**.", "3.14"),
        ("I count.\n\n**Answer:** blue cube\n", "blue cube"),
        ("I count.\nAnswer:\n\nB", "B"),
        ("It is left, so the answer is B. left", "B. left"),
        ("The answer is 3. No: the answer is 4.", "4"),
        ("Is the answer clear? Yes. ANSWER: no", "no"),
        ("There are 2.", None),
        ("", None),
        ("The answer is 2.\nI hope that this helps.", None),
        ("The answer is found by counting. There are 3 and 2 go.", None),
        ("The answer is not 2.", None),
        ("The answer:", None),
        ("The answer is **.**", None),
        ("Answering is hard: 2", None),
    ],
)
def test_the_answer_that_a_text_ends_with(text: str, answer: str | None) -> None:
    assert read_answer(text) == (text.strip(), answer)


@pytest.mark.parametrize("text", ["Answer: 2", "**Answer:** 2", "So the answer is 2.", "Answer:\n2"])
def test_an_answer_alone_has_no_thought_before_it(text: str) -> None:
    assert read_answer(text) == ("", "2")


@given(
    st.text(st.sampled_from("answer is:.*\nB 2")),
    st.integers(0, 99999).map(str) | st.sampled_from("ABCDEFGH"),
)
def test_whatever_was_said_before_the_last_line_is_read(before: str, answer: str) -> None:
    assert read_answer(f"{before}\nThe answer is {answer}.")[1] == answer


def test_the_form_of_an_answer() -> None:
    assert answer_form(Question("q", options=("x", "y", "z"))).endswith("A, B or C")
    assert answer_form(Question("q", options=("x",))).endswith("alone: A")
    assert "briefly" in answer_form(QUESTION)


def test_a_reply_in_stages_is_told_by_one_of_them_or_by_all_its_words() -> None:
    staged = "<CAPTION> a cube </CAPTION> and <CONCLUSION> 2 </CONCLUSION>"
    assert plain(staged, LLAVA_COT, "caption") == "a cube"
    assert plain(staged, LLAVA_COT, "reasoning").split() == ["a", "cube", "and", "2"]
    assert plain(staged, LLAVA_COT, None).split() == ["a", "cube", "and", "2"]
    assert plain(" 2 cubes ", LLAVA_COT, "caption") == "2 cubes"


_SOUP = st.lists(
    st.sampled_from(
        ["<CAPTION>", "</CAPTION>", "<CON", "CLUSION>", "<conclusion>", "two", " ", "\n", "<", "3."]
    )
).map("".join)


@given(_SOUP, _SOUP)
def test_whatever_is_put_into_stages_is_read_back(thought: str, answer: str) -> None:
    search = new_search()
    keep_as(search, continuation("sampled"), {"caption": "before"})
    keep_as(search, continuation("sampled"), {"reasoning": thought, "conclusion": answer, None: "lost"})
    trace = search.finish()
    assert trace.stages["caption"] == "before"
    kept = {name: text for name, text in trace.stages.items() if text}
    assert parse(trace.text, LLAVA_COT).stages == trace.stages
    assert {found.kind for found in validate(trace.text, LLAVA_COT)} <= {"absent"}
    for name, text in (("reasoning", thought), ("conclusion", answer)):
        if text.strip() and not set(text) & set("<>"):
            assert kept[name] == text.strip()
    assert all(not candidate.tokens for candidate in trace.candidates if candidate.id in trace.chosen)
    assert (trace.usage.model_calls, len(trace.candidates)) == (2, 2)


def test_what_has_no_stage_stays_in_the_trace_as_it_was() -> None:
    search = new_search()
    keep_as(search, continuation("a thought"), {None: "a thought", "conclusion": None})
    trace = search.finish()
    assert [candidate.text for candidate in trace.candidates] == ["a thought"]
    assert (trace.chosen, trace.text, trace.answer, trace.usage.model_calls) == ((), "", None, 1)
