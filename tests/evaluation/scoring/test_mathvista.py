"""MathVista's rule against what VLMEvalKit made of the same texts (record_vlmeval_judged.py)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llava_cot.errors import DataError
from llava_cot.evaluation.scorer import score_answer
from llava_cot.evaluation.scoring.mathvista import MathVistaRule
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, ScoredItem
from llava_cot.models.base import Prompt

RECORDED = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "eval" / "mathvista.json").read_text(encoding="utf-8")
)
RULE = MathVistaRule()
COLUMNS = ("question_type", "answer_type", "choices", "answer_option", "task", "skills")


def item(row: dict[str, str]) -> BenchmarkItem:
    extra = {name: row[name] for name in COLUMNS}
    return BenchmarkItem(row["index"], f"Question: number {row['index']}?", answer=row["answer"], extra=extra)


ITEMS = {row["index"]: item(row) for row in RECORDED["questions"]}


def free(kind: str, answer: str) -> BenchmarkItem:
    return BenchmarkItem(
        "1", "How many?", answer=answer, extra={"question_type": "free_form", "answer_type": kind}
    )


def test_answers_that_vlmevalkit_matches_are_matched_with_the_same_score() -> None:
    taken = [row for row in RECORDED["rows"] if row[2]]
    assert len(taken) > 300
    for index, text, _, right, _ in taken:
        found = RULE.match(ITEMS[index], text)
        assert found is not None and found.by == "match", (index, text)
        assert (found.value == 1) is right, (index, text)


def test_other_answers_are_matched_only_where_the_text_is_the_answer() -> None:
    """There the scorer has nothing to add, and its extracting the text as it is gives the same score."""
    left = [row for row in RECORDED["rows"] if not row[2]]
    assert len(left) > 300
    settled = 0
    for index, text, _, _, extracted in left:
        found = RULE.match(ITEMS[index], text)
        if found is None:
            continue
        settled += 1
        assert (found.value == 1) is extracted, (index, text)
        extra = ITEMS[index].extra
        assert extra["question_type"] == "free_form"
        if extra["answer_type"] == "float":
            assert float(text) == float(ITEMS[index].answer or "") == 0  # it takes its own 0 for a failure
    assert 0 < settled < len(left) / 2


def test_replies_of_a_scorer_are_worth_the_same() -> None:
    unread = 0
    for index, text, _, _, extracted in RECORDED["rows"]:
        if ITEMS[index].extra["answer_type"] in ("list", "text") and not ITEMS[index].extra["answer_option"]:
            assert not extracted  # nobody is asked
            continue
        found = RULE.read(ITEMS[index], "some words", text)
        unread += found is None
        assert extracted is (found is not None and found.value == 1), (index, text)
        assert found is None or (found.by, found.reason) == ("scorer", text)
    assert unread > 100


@pytest.mark.parametrize("run", RECORDED["runs"])
async def test_tables_are_the_same(run: dict[str, Any]) -> None:
    scored = []
    for one, reply in zip(ITEMS.values(), run["replies"], strict=True):

        async def ask(prompt: Prompt, attempt: int, reply: str = reply) -> str:
            return reply

        scored.append(
            ScoredItem(
                one, await score_answer(RULE, one, "the words of a model that settle nothing at all", ask)
            )
        )
    found = {}
    for metric in RULE.metrics(scored):
        values = [unit.value for unit in metric.units]
        found[metric.name] = [len(values), sum(values), pytest.approx(100 * sum(values) / len(values))]
    expected = {("overall" if name == "Overall" else name): rest for name, *rest in run["table"]}
    assert expected == found
    assert len(found) > 8


def test_the_letters_of_choices_are_extracted() -> None:
    chosen = ITEMS["0"]
    assert RULE.match(chosen, "The angle is 70°.") == AnswerScore(1.0, "match", "C")
    assert RULE.match(chosen, "(B)") == AnswerScore(0.0, "match", "B")
    assert RULE.match(chosen, "The angle is right") is None
    assert RULE.read(chosen, "", "Z") == AnswerScore(0.0, "scorer", "Z", "Z")


def test_lists_may_be_lists_already_and_pictures_be_shared() -> None:
    chosen = ITEMS["0"]
    extra = {**chosen.extra, "choices": ["35°", "55°"], "skills": ["x", "y"], "cluster": "picture 3"}
    chosen = replace(chosen, extra=extra)
    found = RULE.match(chosen, "55°")
    assert found == AnswerScore(0.0, "match", "B")
    metrics = RULE.metrics([ScoredItem(chosen, found)])
    assert [metric.name for metric in metrics] == ["overall", chosen.extra["task"], "x", "y"]
    assert {unit.cluster for metric in metrics for unit in metric.units} == {"picture 3"}


def test_numbers_are_compared_by_their_type() -> None:
    assert RULE.match(free("integer", "14"), "14") == AnswerScore(1.0, "match", "14")
    assert RULE.match(free("integer", "14"), "15") == AnswerScore(0.0, "match", "15")
    assert RULE.match(free("integer", "0"), "0") == AnswerScore(1.0, "match", "0")
    assert RULE.match(free("integer", "14"), "There are 14.") is None
    assert RULE.match(free("float", "0.60"), "0.6") == AnswerScore(1.0, "match", "0.6")
    assert RULE.match(free("float", "0.6"), "0.61") is None
    assert RULE.read(free("float", "0.6"), "0.61", "0.6") == AnswerScore(1.0, "scorer", "0.6", "0.6")
    assert RULE.read(free("float", "0.6"), "0.61", "It is 0.6") is None
    assert RULE.read(free("integer", "3"), "none that I see", "Z\n") == AnswerScore(0.0, "scorer", "Z", "Z\n")


def test_a_list_is_wrong_and_says_why() -> None:
    found = RULE.match(free("list", "[1, 2]"), "[1, 2]")
    assert found is not None
    assert (found.value, found.reason) == (0.0, "VLMEvalKit compares no answer of the type 'list'")


def test_the_prompt_has_the_question_and_the_response_and_never_the_answer() -> None:
    asked = BenchmarkItem(
        "1", "How many pins?", answer="4711", extra={"question_type": "free_form", "answer_type": "integer"}
    )
    text = RULE.prompt(asked, "About as many as\nthere are needles.").messages[0].text
    assert "4711" not in text
    assert text.endswith("How many pins?\nResponse: About as many as\nthere are needles.\nExtracted answer:")
    assert text.count("Extracted answer:") == 7


def test_a_missing_column_is_an_error() -> None:
    with pytest.raises(DataError, match="the question 7 has no question_type"):
        RULE.match(BenchmarkItem("7", "?", answer="1"), "1")
    with pytest.raises(DataError, match="the question 7 has no choices"):
        RULE.match(BenchmarkItem("7", "?", extra={"question_type": "multi_choice"}), "A")
