"""A file of rollouts is read as it was written, and what is wrong in one is said with its line."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava_cot.data.rollouts.rollout_file import (
    QuestionRollouts,
    Rollout,
    read_rollouts,
    stage_ends,
    write_rollouts,
)
from llava_cot.errors import DataError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SHARE = st.floats(0, 1)
ROLLOUTS = st.builds(
    Rollout,
    TEXT,
    st.booleans(),
    times=st.integers(1, 9),
    logprob=st.none() | st.floats(-100, 0),
    values=st.none() | st.dictionaries(st.sampled_from(["summary", "caption"]), SHARE),
)
QUESTIONS = st.builds(
    QuestionRollouts,
    TEXT.filter(bool),
    TEXT,
    TEXT,
    st.lists(ROLLOUTS, max_size=3, unique_by=lambda rollout: rollout.text).map(tuple),
    images=st.lists(st.sampled_from(["images/a.png", "images/b/c.png"]), max_size=2).map(tuple),
    options=st.lists(TEXT, max_size=3).map(tuple),
    extra=st.dictionaries(TEXT, st.integers(), max_size=2),
)
STAGED = "<SUMMARY> a </SUMMARY>\n\n<CAPTION> b </CAPTION>\n\n<REASONING> c"
LINE = {"id": "1", "question": "How many?", "answer": "3", "samples": [{"text": "3", "right": True}]}


@given(st.lists(QUESTIONS, max_size=3, unique_by=lambda question: question.id))
def test_questions_are_the_same_after_their_file(questions: list[QuestionRollouts]) -> None:
    with TemporaryDirectory() as folder:
        write_rollouts(Path(folder, "rollouts.jsonl"), questions)
        assert list(read_rollouts(Path(folder))) == questions


def test_a_line_has_the_documented_keys(tmp_path: Path) -> None:
    question = QuestionRollouts("1", "How many?", "3", (Rollout("3", True), Rollout("4", False, times=2)))
    write_rollouts(tmp_path / "rollouts.jsonl", [question])
    line = json.loads((tmp_path / "rollouts.jsonl").read_text())
    assert line["samples"] == [
        {"text": "3", "right": True, "times": 1, "logprob": None},
        {"text": "4", "right": False, "times": 2, "logprob": None},
    ]
    assert set(line) == {"id", "question", "answer", "samples", "images", "options", "extra"}


def test_values_stand_at_the_ends_of_their_stages() -> None:
    ends = stage_ends(STAGED)
    assert {name: STAGED[:end][-10:] for name, end in ends.items()} == {
        "summary": "</SUMMARY>",
        "caption": "</CAPTION>",
    }
    staged = Rollout(STAGED, True, values={"caption": 0.5, "summary": 0.25, "reasoning": 1.0})
    assert staged.step_values() == [(ends["summary"], 0.25), (ends["caption"], 0.5)]
    assert Rollout("one. two.", True, steps=((4, 1.0), (9, 0.5))).step_values() == [(4, 1.0), (9, 0.5)]
    assert Rollout("one", True).step_values() == []


def test_a_question_is_mixed_if_its_samples_differ() -> None:
    right, wrong = Rollout("3", True), Rollout("4", False)
    mixed = [QuestionRollouts("1", "?", "3", those).mixed for those in ((right, wrong), (right,), ())]
    assert mixed == [True, False, False]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": ["../x.png"]}, "outside"),
        ({"samples": [{"text": "3", "right": "yes"}]}, r"samples\[0\].right"),
        ({"samples": [{"text": "3", "right": True}] * 2}, "same text"),
        ({"samples": [{"text": "3", "right": True, "values": {"summary": 1.5}}]}, "less than or equal to 1"),
        ({"samples": [{"text": "3", "right": True, "steps": [[2, 1.0]]}]}, "within the text"),
        ({"samples": [{"text": "3", "right": True, "score": 1}]}, r"samples\[0\].score"),
        ({"answer": None}, "answer: Input should be a valid string"),
    ],
)
def test_a_wrong_line_is_refused_with_its_number(
    change: dict[str, object], said: str, tmp_path: Path
) -> None:
    (tmp_path / "rollouts.jsonl").write_text("\n" + json.dumps(LINE | change))
    with pytest.raises(DataError, match=f"rollouts.jsonl, line 2: .*{said}"):
        list(read_rollouts(tmp_path))


def test_no_json_a_second_id_and_no_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "rollouts.jsonl"
    with pytest.raises(DataError, match="`llava-cot data rollouts` writes"):
        list(read_rollouts(tmp_path))
    file.write_text("{")
    with pytest.raises(DataError, match="line 1: "):
        list(read_rollouts(tmp_path))
    file.write_text(f"{json.dumps(LINE)}\n{json.dumps(LINE)}\n")
    with pytest.raises(DataError, match="line 2: an earlier line has its id"):
        list(read_rollouts(file))
