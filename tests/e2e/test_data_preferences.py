"""`llava-cot data preferences`, the whole command."""

from __future__ import annotations

import json
from pathlib import Path

from command import refusal, run
from made_traces import single, staged


def test_traces_become_pairs_and_answers(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    (folder / "more").mkdir(parents=True)
    staged(4).save(folder / "one.json")
    single().save(folder / "more/two.json")
    words = {"summary": "a", "caption": "b", "reasoning": "c", "conclusion": "2"}
    (tmp_path / "three.jsonl").write_text(staged(2, words).model_dump_json())
    out = tmp_path / "out"
    done = run("data", "preferences", folder, tmp_path / "three.jsonl", "--out", out)
    assert (done.returncode, done.stdout) == (0, b"")
    output = done.stderr.decode()
    assert "12 pairs and 3 answers from 3 traces" in output
    assert "4 the judge chose neither" in output
    pairs = [json.loads(line) for line in (out / "preferences.jsonl").read_text().splitlines()]
    assert all("Try" in pair["rejected"][0]["content"] for pair in pairs)
    assert not any("Try" in pair["chosen"][0]["content"] for pair in pairs)
    assert run("data", "check", out).returncode == 1  # several answers to one question
    assert "name a new or empty folder" in refusal("data", "preferences", folder, "--out", out)


def test_what_is_no_trace(tmp_path: Path) -> None:
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces/x.json").write_text("{}")
    out = tmp_path / "out"
    assert "x.json is not a trace" in refusal("data", "preferences", tmp_path / "traces", "--out", out)
    assert "nowhere" in refusal("data", "preferences", tmp_path / "nowhere", "--out", out)
    assert "holds no traces" in refusal("data", "preferences", "examples", "--out", out)
    (tmp_path / "traces/x.json").unlink()
    single().save(tmp_path / "traces/x.json")
    assert "is a file" in refusal("data", "preferences", tmp_path / "traces", "--out", "README.md")
