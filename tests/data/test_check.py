"""A spoilt folder: every fault is found where it is, and nothing else is."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scene_sets import Lines, write_lines, write_set

from llava_cot.data.checks.check import MOST, CheckReport, check, check_lines, choose_lines
from llava_cot.data.reading import data_file
from llava_cot.data.record import DUELS, Record, Turn, to_json
from llava_cot.errors import DataError
from llava_cot.scenes.items import write_scenes
from llava_cot.view.records_page import records_page
from llava_cot.view.summaries import check_report


def found(report: CheckReport) -> set[tuple[str, int, int | None]]:
    """Every finding as name, line and turn."""
    return {(name, f.line, f.turn) for name, findings in report.findings.items() for f in findings}


def say(lines: Lines, at: int, old: str, new: str) -> None:
    message = lines[at]["conversations"][1]
    assert old in message["value"]
    message["value"] = message["value"].replace(old, new, 1)


def conclude(lines: Lines, at: int, text: str) -> None:
    message = lines[at]["conversations"][1]
    message["value"] = message["value"].split("<CONCLUSION>")[0] + f"<CONCLUSION> {text} </CONCLUSION>"


def test_a_clean_folder(tmp_path: Path) -> None:
    report = check(write_set(tmp_path / "set", 20))
    assert (report.records, report.turns, report.responses, report.pictures) == (20, 20, 20, 20)
    assert report.agreeing + report.undecided == 20
    assert report.agreeing > 15
    assert not report.counts


def _tag(lines: Lines) -> None:
    say(lines, 1, "</CAPTION>", "")


def _no_summary(lines: Lines) -> None:
    message = lines[1]["conversations"][1]
    message["value"] = message["value"].split("</SUMMARY>")[1]


def _outside(lines: Lines) -> None:
    lines[1]["image"] = "../other.png"


def _absolute(lines: Lines) -> None:
    lines[1]["image"] = "/etc/passwd"


def _zero(lines: Lines) -> None:
    lines[1]["image"] = "a\0b.png"


def _missing(lines: Lines) -> None:
    lines[1]["image"] = "images/nowhere.png"


def _wrong(lines: Lines) -> None:
    lines[1]["questions"][0] |= {"question": "How many?", "answer": "3", "options": []}
    conclude(lines, 1, "4")


def _leak(lines: Lines) -> None:
    say(lines, 1, "<REASONING>", "<REASONING> The standard answer is given.")


def _refusal(lines: Lines) -> None:
    conclude(lines, 1, "I'm sorry, but I can't tell.")


def _same_id(lines: Lines) -> None:
    lines[1]["id"] = lines[0]["id"]


def _same_question(lines: Lines) -> None:
    lines[1] |= {key: lines[0][key] for key in ("conversations", "image")}
    question = lines[0]["questions"][0]
    lines[1]["questions"] = [question | {"question": f"  {question['question'].upper()}"}]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (_tag, {("stages: unclosed", 2, 0)}),
        (_no_summary, {("stages: absent", 2, 0)}),
        (_outside, {("picture: outside", 2, None)}),
        (_absolute, {("picture: outside", 2, None)}),
        (_zero, {("picture: outside", 2, None)}),
        (_missing, {("picture: missing", 2, None)}),
        (_wrong, {("contradiction", 2, 0)}),
        (_leak, {("leak: reasoning", 2, 0)}),
        (_refusal, {("refusal", 2, 0)}),
        (_same_id, {("id", 2, None)}),
        (_same_question, {("duplicate", 2, 0)}),
    ],
)
def test_each_fault_is_found_alone(
    spoil: Callable[[Lines], None], expected: set[tuple[str, int, int | None]], tmp_path: Path
) -> None:
    assert found(check(write_set(tmp_path / "set", 4, spoil))) == expected


def _bytes(image: Image.Image, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG", **options)
    return data.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"no picture at all", "damaged"),
        (_bytes(Image.effect_noise((64, 64), 90))[:900], "damaged or cut off"),
        (_bytes(Image.new("1", (9000, 9000))), "megapixels"),
        (b"\0" * 20_000_001, "20 MB"),
    ],
    ids=["empty", "text", "cut", "pixels", "bytes"],
)
def test_a_picture_that_cannot_be_used(data: bytes, words: str, tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 3)
    (folder / "images/train-0-1.png").write_bytes(data)
    report = check(folder)
    assert found(report) == {("picture: unreadable", 2, None)}
    what = report.findings["picture: unreadable"][0].what
    assert words in what and "images/train-0-1.png" in what


def test_a_picture_that_leads_out_by_a_link(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 2)
    secret = tmp_path / "secret.png"
    (folder / "images/train-0-1.png").rename(secret)
    (folder / "images/train-0-1.png").symlink_to(secret)
    assert found(check(folder)) == {("picture: outside", 2, None)}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "no JSON"),
        ("[1]", "no record"),
        ("[" * 100_000, "nested"),
        ('{"id": "x"}', "no conversation"),
        ('{"id": "x", "conversations": [{"from": "gpt", "value": "a"}]}', "must alternate"),
        (
            '{"id": "x", "conversations": [{"from": "human", "value": {}}, {"from": "gpt", "value": "a"}]}',
            "no record",
        ),
        (
            '{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}',
            "`id` is missing",
        ),
        ('{"id": "x", "conversations": [], "questions": [{"question": "q"}]}', "no record"),
        ('{"id": "x", "conversations": [], "questions": 3}', "no record"),
        ('{"id": "x", "question": "q", "options": 3}', "`options` is a number, not a list"),
        ('{"id": "x", "question": []}', "not a text"),
        ('{"id": {}, "conversations": [], "questions": []}', "not a text"),
        ('{"id": "x", "image": {"a": 1}, "question": "q"}', "a path, a data URL or bytes can be read"),
    ],
)
def test_a_line_that_is_no_record_stops_nothing(line: str, words: str, tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 3, lambda lines: lines.insert(1, line))  # type: ignore[arg-type]
    report = check(folder)
    assert found(report) == {("line", 2, None)}
    assert words in report.findings["line"][0].what
    assert report.records == 3


def test_bytes_that_are_no_text_and_surrogates(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 2)
    with (folder / "train.jsonl").open("ab") as file:
        file.write(b'\xff\xfe\n\n{"id": "\\ud800", "conversations": [{"from": "human", "value": "\\ud801"},')
        file.write(b'{"from": "gpt", "value": "\\udfff"}]}')  # no end of line
    assert {name for name, line, _ in found(check(folder)) if line == 3} == {"line"}
    assert {name for name, line, _ in found(check(folder)) if line == 5} == {
        "stages: absent",
        "stages: outside",
    }


def test_the_plain_form_has_no_answer_to_compare_with(tmp_path: Path) -> None:
    def plain(lines: Lines) -> None:
        for number, line in enumerate(lines):
            for key in ("questions", "source", "licence"):
                del line[key]
            line["conversations"][0]["value"] = "<image>\n" + line["conversations"][0]["value"]
            line["id"] = line["id"] if number else 7

    report = check(write_set(tmp_path / "set", 5, plain))
    assert not report.counts
    assert (report.responses, report.agreeing, report.undecided, report.unanswered) == (5, 0, 0, 5)


def test_questions_without_responses_are_checked_for_the_rest(tmp_path: Path) -> None:
    def unannotated(lines: Lines) -> None:
        for line in lines:
            del line["questions"][0]["annotated"]

    report = check(write_set(tmp_path / "set", 5, unannotated, name="questions.jsonl"))
    assert (report.turns, report.responses) == (5, 0)
    assert not report.counts


def test_a_folder_of_scenes(tmp_path: Path) -> None:
    write_scenes(tmp_path, count=3)
    report = check(tmp_path)
    assert (report.records, report.pictures, report.responses) == (3, 3, 0)
    assert not report.counts


def test_a_duplicate_is_found_by_pixels_and_within_a_record(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 3)
    with Image.open(folder / "images/train-0-0.png") as image:
        image.save(folder / "images/copy.bmp")
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    lines.append(lines[0] | {"id": "copy", "image": "images/copy.bmp"})
    lines.append(lines[0] | {"id": "other", "image": "images/train-0-1.png"})
    lines[2] |= {key: lines[2][key] * 2 for key in ("conversations", "questions")}
    write_lines(folder / "train.jsonl", lines)
    assert found(check(folder)) == {("duplicate", 4, 0), ("duplicate", 3, 1)}


def test_what_is_kept_is_bounded_and_all_is_counted(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{\n" * (MOST + 5))
    report = check(tmp_path)
    assert report.counts["line"] == MOST + 5
    assert len(report.findings["line"]) == MOST


def test_it_reads_as_it_goes(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 70)
    lines = check_lines(data_file(folder))
    assert next(lines).line.number == 1
    (folder / "images/train-0-69.png").unlink()
    assert [line.line.number for line in lines if line.findings] == [70]


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no train\.jsonl"):
        check(tmp_path)
    with pytest.raises(DataError, match="no folder"):
        check(tmp_path / "nowhere")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
WORDS = st.text(max_size=12) | st.sampled_from(["3", "B", "yes", "<CONCLUSION> 3 </CONCLUSION>", "<CAPTION>"])
TURN = st.tuples(
    WORDS.map(lambda text: {"from": "human", "value": text}),
    WORDS.map(lambda text: {"from": "gpt", "value": text}),
)
ASKED = st.fixed_dictionaries(
    {"question": WORDS, "annotated": st.booleans()},
    optional={"answer": WORDS, "options": st.lists(WORDS, max_size=4), "hints": WORDS},
)


def _record(id: str, turns: list[Any], questions: list[Any], form: str) -> dict[str, Any]:
    line = {"id": id, "conversations": [message for turn in turns for message in turn]}
    if form == "questions":
        line["questions"] = [questions[number % len(questions)] for number in range(len(turns))]
    return line if form != "scene" else {"id": id, **questions[0]}


RECORDS = st.builds(
    _record,
    st.text(min_size=1, max_size=4),
    st.lists(TURN, min_size=1, max_size=2),
    st.lists(ASKED, min_size=1, max_size=2),
    st.sampled_from(["questions", "plain", "scene"]),
)
KEYS = (
    "id",
    "image",
    "images",
    "conversations",
    "questions",
    "question",
    "options",
    "answer",
    "source",
    "extra",
)
SPOILT = st.builds(lambda line, key, value: line | {key: value}, RECORDS, st.sampled_from(KEYS), JSON)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(line=RECORDS | SPOILT | JSON)
def test_any_json_is_checked_and_shown(line: object, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps(line))
    report = check(tmp_path)
    assert report.records == 1 or report.counts == {"line": 1}
    json.dumps(report.to_json())
    assert list(check_report(report))
    records_page(choose_lines(tmp_path, 1)).encode()


def test_a_judges_replies_need_no_stages(tmp_path: Path) -> None:
    turn = Turn("Which response is better?", response="Since both fit, I choose response 1.")
    for source, any_found in ((DUELS, False), ("", True)):
        (tmp_path / "train.jsonl").write_text(json.dumps(to_json(Record("1", (turn,), source=source))))
        assert bool(check(tmp_path).counts) == any_found
