"""`llava-cot data check` and `data view`, whole commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import refusal, run
from scene_sets import Lines, write_set

from llava_cot.scenes.items import make_items


def spoil(lines: Lines) -> None:
    lines[0]["image"] = "images/nowhere.png"
    lines.insert(1, "{")  # type: ignore[arg-type]


def test_a_clean_folder_is_told_with_status_0(tmp_path: Path) -> None:
    done = run("data", "check", write_set(tmp_path / "set", 5))
    assert (done.returncode, done.stderr) == (0, b"")
    output = done.stdout.decode()
    assert "5 records, 5 turns, 5 responses, 5 pictures" in output
    assert "nothing was found" in output


def test_findings_are_told_with_status_1(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 5, spoil)
    done = run("data", "check", folder)
    assert (done.returncode, done.stderr) == (1, b"")
    output = done.stdout.decode()
    assert "line 2: it is no JSON" in output
    assert "line 1, train-0-0: images/nowhere.png: no such file" in output
    done = run("data", "check", folder, "--json")
    assert (done.returncode, done.stderr) == (1, b"")
    report = json.loads(done.stdout)
    assert report["counts"] == {"line": 1, "picture: missing": 1}
    assert [(found["line"], found["kind"]) for found in report["findings"]] == [(2, "line"), (1, "picture")]


def test_questions_of_benchmarks_are_found(tmp_path: Path) -> None:
    import base64
    import io

    folder = write_set(tmp_path / "set", 5)
    (item,) = make_items("train", 0, 1)
    data = io.BytesIO()
    item.picture().resize((300, 300)).save(data, "JPEG")
    picture = base64.b64encode(data.getvalue()).decode()
    tsv = tmp_path / "Bench.tsv"
    tsv.write_text(f"index\tquestion\tanswer\timage\n0\tWhat is it?\tcube\t{picture}\n")
    other = write_set(tmp_path / "other", 3, seed=7, split="test")

    done = run("data", "check", folder, "--benchmark", tsv, "--benchmark", other, "--json")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["counts"] == {"benchmark: picture": 1}
    assert report["findings"][0]["id"] == "train-0-0"
    assert run("data", "check", folder, "--benchmark", other).returncode == 0
    again = json.loads(run("data", "check", folder, "--benchmark", folder / "train.jsonl", "--json").stdout)
    assert again["counts"] == {"benchmark: picture": 5}


def test_what_cannot_be_checked(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 2)
    missing = write_set(tmp_path / "missing", 2, lambda lines: lines[0].update(image="nowhere.png"))
    assert "no folder" in refusal("data", "check", tmp_path / "nowhere")
    assert "holds no train.jsonl" in refusal("data", "check", tmp_path)
    assert "no benchmark" in refusal("data", "check", folder, "--benchmark", "README.md")
    assert "nowhere.tsv" in refusal("data", "check", folder, "--benchmark", tmp_path / "nowhere.tsv")
    assert "nowhere.png" in refusal("data", "check", folder, "--benchmark", missing)


def test_a_page_is_written_and_nothing_else_said(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 5, spoil)
    page = tmp_path / "page.html"
    done = run("data", "view", folder, "--out", page, "--count", "3", "--only", "findings")
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.decode() == f"wrote {page}\n"
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert text.count("<article") == 1 and "nowhere.png" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--count", "0"], "--count"),
        (["--only", "nonsense"], "--only"),
        (["--out", "missing/page.html"], "no folder"),
    ],
)
def test_a_page_that_cannot_be(arguments: list[str], words: str, tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 1)
    out = [] if "--out" in arguments else ["--out", str(tmp_path / "page.html")]
    assert words in refusal("data", "view", folder, *out, *arguments)
    assert "no folder" in refusal("data", "view", tmp_path / "nowhere", "--out", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
