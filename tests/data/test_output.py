"""What is written of a set: lines, table, rejects, pictures and card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from teachers import CORRECT, INCORRECT, Priced, moody, questions, replying, staged

from llava_cot.core.stages import parse
from llava_cot.data.annotation.annotate import annotate_to
from llava_cot.data.annotation.output import _quantile
from llava_cot.data.annotation.teachers import ModelTeacher
from llava_cot.data.reading import RecordFile
from llava_cot.data.record import Picture, Record, Turn, from_json, to_json
from llava_cot.errors import DataError
from llava_cot.scenes.items import make_items, write_scenes

TEACHER = replying(lambda question, judge, time: CORRECT if judge else staged("It is said."))


def write(out: Path, records: list[Record]) -> list[Record]:
    """Annotate; the set as it is read again."""
    annotate_to(out, records, ModelTeacher(TEACHER))
    text = (out / "train.jsonl").read_text()
    return [from_json(json.loads(line), out) for line in text.splitlines()]


def test_a_set_is_read_again_with_its_pictures(tmp_path: Path) -> None:
    records = questions(3, turns=2, root=tmp_path / "in")
    found = write(tmp_path / "out", records)
    assert [record.id for record in found] == ["q/0", "q/1", "q/2"]
    for before, after in zip(records, found, strict=True):
        assert [turn.response for turn in after.turns] == [staged("It is said.")] * 2
        assert [p.read() for p in after.pictures] == [p.read() for p in before.pictures]
        assert after.pictures[0].file.samefile(before.pictures[0].file)  # type: ignore[union-attr, arg-type]
    assert list(RecordFile(tmp_path / "out")) == found


def test_datasets_loads_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    records = [
        *questions(2, root=tmp_path / "in"),
        Record("text", (Turn("Why?", "B", ("a", "b"), "Think."),)),
    ]
    write(tmp_path / "out", records)
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded["id"] == ["q/0", "q/1", "text"]
    assert loaded[1]["images"][0].getpixel((0, 0)) == (1, 0, 0) and loaded[2]["images"] == []
    lines = (tmp_path / "out/train.jsonl").read_text().splitlines()
    conversations = [json.loads(line)["conversations"] for line in lines]
    assert loaded["conversations"] == conversations
    assert loaded[2]["questions"] == [
        {"question": "Why?", "answer": "B", "options": ["a", "b"], "hints": "Think."}]  # fmt: skip


def test_pictures_of_one_name_and_of_other_sources(tmp_path: Path) -> None:
    """ "x.png" and "images/x.png" would have one place; what is only bytes is written."""
    records = []
    for i, name in enumerate(["x.png", "images/x.png", "images/x.png", "deep/er/x.png"]):
        file = tmp_path / str(i) / name
        file.parent.mkdir(parents=True)
        Image.new("RGB", (3, 3), (i // 2 * 2, 0, i)).save(file)
        data = file.read_bytes() if i == 3 else None
        records.append(Record(f"{i}", (Turn("?", "1"),), (Picture(name, None if data else file, data),)))
    for _ in range(2):  # the second time all is there
        found = write(tmp_path / "out", records)
        assert [r.pictures[0].read() for r in found] == [r.pictures[0].read() for r in records]
        assert (
            found[0].pictures[0].name == "images/x.png"
            and found[3].pictures[0].name == "images/deep/er/x.png"
        )
    assert len(list((tmp_path / "out" / "images").rglob("*.png"))) == 4


def test_a_name_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(Path("examples/scene.png").read_bytes())
    evil = Record("1", (Turn("?", "1"),), (Picture("../../x.png", tmp_path / "x.png"),))
    with pytest.raises(DataError, match="outside"):
        write(tmp_path / "out", [evil])
    assert not (tmp_path / "out" / "train.jsonl").exists() and not list((tmp_path / "out").glob("*.part"))


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    write(tmp_path, questions(1))
    (tmp_path / "train.jsonl.123.part").write_text("torn")
    write(tmp_path, questions(1))
    assert not list(tmp_path.glob("*.part"))


def test_texts_that_are_no_unicode_are_written(tmp_path: Path) -> None:
    assert len(write(tmp_path, [Record("\ud800", (Turn("half \udc00?", "1"),))])) == 1


def test_the_card(tmp_path: Path) -> None:
    records = [
        *questions(40),
        Record("b", (Turn("Is it 1?", "1"),), (), "other | source", "MIT"),
        *questions(1),
    ]
    done = annotate_to(tmp_path, records, ModelTeacher(Priced(moody)))
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("---\nlicense: other\n")
    annotated, rejected = done.summary.turns, done.summary.rejected
    assert (annotated + rejected.total(), done.summary.repeated) == (41, 1)
    rows = {
        cells[1].strip(): cells[2].strip()
        for line in text.splitlines()
        if len(cells := line.split(" | ")) == 99
    }
    assert rows == {}
    for row in (
        f"| records | {annotated} |", f"| rejected turns | {rejected.total()} |", "| teacher | scripted |",
        f"| calls | {done.cost.calls} |", f"| US dollars | {done.cost.usd:.2f} |", "other \\| source | MIT |",
        f"| the stages were not complete and in order | {rejected['format']} |",
    ):  # fmt: skip
        assert row in text, row
    assert "Not complete" not in text
    stages = [parse(turn["value"]).stages for line in (tmp_path / "train.jsonl").read_text().splitlines()
              for turn in json.loads(line)["conversations"][1::2]]  # fmt: skip
    lengths = sorted(len((one["conclusion"] or "").split()) for one in stages)
    mean = sum(lengths) / len(lengths)
    assert f"| conclusion | {mean:.1f} | {lengths[(len(lengths) - 1) // 2]} | " in text


@given(st.lists(st.integers(0, 30), min_size=1), st.sampled_from([0.5, 0.95]))
def test_quantiles(lengths: list[int], share: float) -> None:
    from collections import Counter

    found = _quantile(Counter(lengths), share)
    assert sum(length <= found for length in lengths) >= share * len(lengths) - 1e-9
    assert sum(length < found for length in lengths) < share * len(lengths)


def test_all_rejected_leaves_an_empty_set(tmp_path: Path) -> None:
    model = replying(lambda question, judge, time: INCORRECT if judge else staged("Never."))
    done = annotate_to(tmp_path, questions(2), ModelTeacher(model))
    assert (done.summary.records, done.summary.rejected) == (0, {"conclusion": 2})
    assert (tmp_path / "train.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [(b"{", "line 2: it is no JSON"), (b"[1]", "line 2: it is no record"),
     (b"\xff\xfe", "line 2: it is no UTF-8"), (b'{"id": "1"}', "line 2: it is no record"),
     (b'{"id": [1], "conversations": [{"value": "?"}, {"value": "!"}], "questions": [{"question": "?"}]}',
      "not a text"),
     (b'{"id": "1", "image": "../x.png", "question": "?"}', "line 2: the picture '../x.png' lies outside")],
)  # fmt: skip
def test_lines_that_are_none(tmp_path: Path, line: bytes, words: str) -> None:
    good = json.dumps(to_json(questions(1)[0])).encode()
    (tmp_path / "questions.jsonl").write_bytes(good + b"\n" + line + b"\n\n" + good)
    with pytest.raises(DataError, match=words):
        list(RecordFile(tmp_path))
    assert len(RecordFile(tmp_path)) == 3


def test_input_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no questions\.jsonl"):
        RecordFile(tmp_path)
    with pytest.raises(DataError, match="there are no records at"):
        RecordFile(tmp_path / "no")


def test_the_forms_that_questions_come_in(tmp_path: Path) -> None:
    """What `llava-cot scenes` writes, and conversations whose replies are the standard answers."""
    write_scenes(tmp_path / "scenes", count=2, split="train")
    assert [(r.id, r.turns[0].answer) for r in RecordFile(tmp_path / "scenes")] == [
        (item.id, item.answer) for item in make_items("train", 0, 2)
    ]
    talk = [{"from": "human", "value": "How many?"}, {"from": "gpt", "value": staged("3")}]
    talk += [{"from": "human", "value": "And red ones?"}, {"from": "gpt", "value": "1"}]
    (tmp_path / "talk.jsonl").write_text(json.dumps({"id": 7, "conversations": talk}))
    (record,) = RecordFile(tmp_path / "talk.jsonl")
    assert [(turn.question, turn.answer, turn.response) for turn in record.turns] == [
        ("How many?", "3", staged("3")),
        ("And red ones?", "1", "1"),
    ]
