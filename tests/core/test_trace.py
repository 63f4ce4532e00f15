import json
import math
import re
from pathlib import Path

import pytest

from llava_cot.core.trace import (
    Candidate,
    Check,
    ImageRecord,
    QuestionRecord,
    StageTags,
    Trace,
    Usage,
    Verdict,
)

TRACE = Trace(
    question=QuestionRecord(
        id="q1",
        text="How many cubes? Größe?",
        options=("1", "2"),
        images=(ImageRecord(name="a.png", sha256="0" * 64, width=4, height=3, data="data:,"),),
        reference="2",
    ),
    model="mini",
    method="stage-beam",
    judge="self",
    n=2,
    seed=7,
    temperature=0.6,
    top_p=0.9,
    max_tokens=2048,
    format=(StageTags(name="answer", open="<answer>", close="</answer>"),),
    candidates=(
        Candidate(id=0, parent=None, round=0, stage="answer", text="<answer>1</answer>", tokens=(1, 2)),
        Candidate(
            id=1, parent=None, round=0, stage="answer", text="<answer>2", logprob=-0.5, finish="length"
        ),
    ),
    verdicts=(
        Verdict(
            a=0,
            b=1,
            winner=1,
            round=0,
            stage="answer",
            judge="self",
            decided_by="check",
            scores=(0.25, 0.75),
            checks=(
                Check(candidate=0, correct=False, reply="No."),
                Check(candidate=1, correct=None, reply=""),
            ),
        ),
    ),
    chosen=(1,),
    text="<answer>2",
    stages={"answer": "2", "why": None},
    answer="2",
    usage=Usage(prompt_tokens=9, completion_tokens=4, model_calls=3, seconds=0.5),
)


def test_a_saved_trace_is_the_same_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    TRACE.save(path)
    assert Trace.load(str(path)) == TRACE
    plain = json.loads(path.read_text(encoding="utf-8"))
    assert plain["candidates"][1]["logprob"] == -0.5
    assert plain["stages"] == {"answer": "2", "why": None}


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinite_scores_survive(tmp_path: Path, value: float) -> None:
    verdict = TRACE.verdicts[0].model_copy(update={"scores": (value, 0.0)})
    trace = TRACE.model_copy(update={"verdicts": (verdict,)})
    path = tmp_path / "trace.json"
    trace.save(path)
    assert Trace.load(path) == trace
    json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"not json", "JSON"),
        (b"[]", "not a trace"),
        (b"{}", "question"),
        (TRACE.model_dump_json().encode()[:-10], "JSON"),
        (TRACE.model_dump_json().replace('"version":1', '"version":2').encode(), "version"),
        (TRACE.model_dump_json().replace('"winner":1', '"winner":"x"').encode(), "verdicts[0].winner"),
        (TRACE.model_dump_json().replace('"winner":1', '"winner":1,"more":1').encode(), "verdicts[0].more"),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path: Path, data: bytes, word: str) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"is not a trace") as caught:
        Trace.load(path)
    assert word in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ValueError, match="cannot read the trace"):
            Trace.load(path)


def test_a_save_that_fails_leaves_the_old_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trace.json"
    TRACE.save(path)

    def fail(self: Path, data: str, **_: object) -> int:
        with self.open("w") as file:
            file.write(data[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="No space"):
        TRACE.model_copy(update={"seed": 8}).save(path)
    assert Trace.load(path) == TRACE


def test_a_save_replaces_the_old_trace_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text("old")
    TRACE.save(path)
    assert Trace.load(path) == TRACE
    assert [file.name for file in tmp_path.iterdir()] == ["trace.json"]


def test_usage_adds_up() -> None:
    total = sum([TRACE.usage, TRACE.usage], start=Usage())
    assert total == Usage(prompt_tokens=18, completion_tokens=8, model_calls=6, seconds=1.0)


def test_a_trace_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TRACE.seed = 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chosen": [5]}, "there is no candidate 5"),
        ({"chosen": [-1]}, "there is no candidate -1"),
        ({"candidates": [{"id": 0, "parent": 0, "round": 0, "stage": "a", "text": ""}]}, "before its parent"),
        ({"candidates": [{"id": 1, "parent": None, "round": 0, "stage": "a", "text": ""}]}, "at its place"),
        ({"scores": [{"candidate": 9, "value": 1, "round": 0, "stage": "a", "judge": "a"}]}, "candidate 9"),
        ({"temperature": "warm"}, "temperature: "),
        ({"usage": {"prompt_tokens": 10**400}}, "usage.prompt_tokens: "),
        ({"usage": {"prompt_tokens": -1}}, "usage.prompt_tokens: "),
        ({"more": 1}, "more: there is no such field"),
    ],
)  # fmt: skip
def test_a_trace_that_contradicts_itself_is_refused(change: dict[str, object], words: str) -> None:
    fields = json.loads(TRACE.model_dump_json()) | change
    with pytest.raises(ValueError, match=f"t.json is not a trace: .*{re.escape(words)}"):
        Trace.parse(json.dumps(fields).encode(), "t.json")


@pytest.mark.parametrize("data", [b"[" * 10**6, b'{"a":' * 10**5, b"", b"null", b"\xff", b"1" * 10**6])
def test_what_is_no_trace_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"t\.json is not a trace"):
        Trace.parse(data, "t.json")
