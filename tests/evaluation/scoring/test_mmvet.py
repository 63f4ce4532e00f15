"""MM-Vet's rule against what VLMEvalKit made of the same grades (record_vlmeval_judged.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llava_cot.evaluation.scoring.mmvet import MMVetRule
from llava_cot.evaluation.statistics import mean_with_interval
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, ScoredItem

RECORDED = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "eval" / "mmvet.json").read_text(encoding="utf-8")
)
RULE = MMVetRule()
# Replies that VLMEvalKit does not read, though it is clear what they say.
DRESSED = {"Grade: 0.4": 0.4, "[0.7]": 0.7, "0.5.": 0.5}


def item(answer: str | None, capability: str = "rec", id: str = "1") -> BenchmarkItem:
    return BenchmarkItem(id, "What is it?", answer=answer, extra={"capability": capability})


def test_grades_are_read_as_vlmevalkit_reads_them() -> None:
    for reply, grade in RECORDED["replies"]:
        found = RULE.read(item("a cat"), "a dog", reply)
        if reply in DRESSED:
            assert found == AnswerScore(DRESSED[reply], "scorer", reason=reply)
        elif grade is None or grade == "nan":
            assert found is None, reply
        else:
            assert found == AnswerScore(grade, "scorer", reason=reply)


@pytest.mark.parametrize(
    "reply",
    [
        "Grade: 0.8", "**0.8**", "**Grade:** 0.8", "score = 0.8.", "The grade is 0.8", "0.8/1.0",
        "0.8 out of 1", "`0.8`", "\\boxed{0.8}", "My grade: 0.8",
        "Half of it is there.\n\n## Final grade: 0.8",
    ],
)  # fmt: skip
def test_a_grade_is_read_as_people_write_it(reply: str) -> None:
    found = RULE.read(item("a cat"), "a dog", reply)
    assert found == AnswerScore(0.8, "scorer", reason=reply)


def test_what_follows_a_grade_on_another_line_is_cut_off() -> None:
    reply = "0.5\n\nOne of the two parts is there."
    assert RULE.read(item("a cat"), "a dog", reply) == AnswerScore(0.5, "scorer", reason=reply)
    assert RULE.read(item("a cat"), "a dog", "Half of it.\n0.5") is None


@pytest.mark.parametrize("run", RECORDED["runs"])
def test_tables_are_the_same(run: dict[str, Any]) -> None:
    scored = [
        ScoredItem(item("x", capability, str(i)), AnswerScore(grade, "scorer"))
        for i, (capability, grade) in enumerate(run["rows"])
    ]
    found = {}
    for metric in RULE.metrics(scored):
        values = [unit.value for unit in metric.units]
        assert len({unit.key for unit in metric.units}) == len(values)
        found[metric.name] = [len(values), pytest.approx(100 * sum(values) / len(values))]
        assert mean_with_interval(metric.units).value == found[metric.name][1]
    expected = {("overall" if name == "Overall" else name): rest for name, *rest in run["table"]}
    assert expected == found
    assert set(found) > {"overall", "rec", "ocr", "know", "gen", "spat", "math", "rec_know_gen"}


def test_a_question_of_one_capability_counts_twice_in_it_and_once_overall() -> None:
    """What VLMEvalKit does, and so its figures: (2 x 1 + 0) / 3, not 1 / 2."""
    scored = [
        ScoredItem(item("x", "rec", "1"), AnswerScore(1.0, "match")),
        ScoredItem(item("x", "rec,ocr", "2"), AnswerScore(0.0, "scorer")),
    ]
    metrics = {metric.name: metric.units for metric in RULE.metrics(scored)}
    assert list(metrics) == ["overall", "rec", "ocr", "rec_ocr"]
    assert [unit.value for unit in metrics["rec"]] == [1.0, 1.0, 0.0]
    assert [unit.cluster for unit in metrics["rec"]] == ["1", "1", "2"]
    assert len(metrics["overall"]) == 2


def test_only_the_very_words_of_a_single_reference_need_no_scorer() -> None:
    assert RULE.match(item("A  red\nfox"), " a red Fox ") == AnswerScore(1.0, "match", "a red Fox")
    for answer, conclusion in (
        ("a red fox", "a red fox."),
        ("a red fox", "red fox"),
        ("7<AND>9", "7<AND>9"),
        ("seven<OR>7", "7"),
        ("", ""),
        (None, ""),
    ):
        assert RULE.match(item(answer), conclusion) is None


def test_the_prompt_shows_the_parts_of_the_reference_apart() -> None:
    text = RULE.prompt(item("7<AND>9 <OR> nine"), "It is 7").messages[0].text
    assert text.endswith("Question: What is it?\nReference: 7 <AND> 9 <OR> nine\nAnswer: It is 7\nGrade:")


def test_questions_without_capabilities_have_an_overall_figure() -> None:
    scored = [ScoredItem(BenchmarkItem("1", "?", answer="x"), AnswerScore(1.0, "match"))]
    assert [metric.name for metric in RULE.metrics(scored)] == ["overall"]
