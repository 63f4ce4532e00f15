"""`llava-cot data sample`, whole: a sample, its repetition, kills, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from command import COMMAND, ROOT, Terminal, environment, refusal, run

from llava_cot.data.sources.entry import SourceEntry, open_source

FIXTURES = ROOT / "tests/fixtures"


def recipe(folder: Path, *sources: object, **more: object) -> Path:
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({"sources": list(sources)} | more))
    return file


def scenes(folder: Path, count: object = 30, **more: object) -> Path:
    return recipe(folder, {"source": "scenes", "split": "train", "count": count, **more})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_scenes_without_those_of_a_benchmark(tmp_path: Path) -> None:
    entries = [{"source": "scenes", "split": "train", "count": 20, "size": 40}]
    benchmark = {"source": "scenes", "split": "train", "size": 15, "name": "kept-out"}
    done = run("data", "sample", recipe(tmp_path, *entries, exclude=[benchmark]), "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, b""), done.stderr.decode()
    assert done.stderr.decode().splitlines() == ["scenes: 20 of 40", f"{tmp_path}/out has 20 questions"]
    lines = [json.loads(line) for line in (tmp_path / "out/questions.jsonl").read_text().splitlines()]
    assert {int(line["id"].rpartition("-")[2]) for line in lines} <= set(range(15, 40))
    assert all((tmp_path / "out" / line["image"]).is_file() and line["extra"]["type"] for line in lines)
    report = json.loads((tmp_path / "out/sample.json").read_text())
    assert report["sources"][0]["overlaps_by_picture"] > 0
    assert report["exclude"] == [{"name": "kept-out", "title": "Scenes", "questions": 15}]
    again = run("data", "sample", tmp_path / "recipe.yaml", "--out", tmp_path / "again")
    assert again.returncode == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "again")


def test_the_ten_sources_of_the_paper(tmp_path: Path) -> None:
    entries = yaml.safe_load((ROOT / "recipes/llava-cot-100k.yaml").read_text())
    for entry in entries["sources"]:
        entry["count"] = "all"
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(entries))
    command = [*COMMAND, "data", "sample", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out")]
    variables = environment() | {"LLAVA_COT_DATA": str(FIXTURES)}
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads((tmp_path / "out/sample.json").read_text())
    assert [source["drawn"] > 0 for source in report["sources"]] == [True] * 10
    assert all(source["licence"] and source["home"] for source in report["sources"])
    refused = refusal("data", "sample", tmp_path / "recipe.yaml", "--out", tmp_path / "other")
    assert "environment variable LLAVA_COT_DATA, which is not set" in refused


def test_sources_of_any_origin(tmp_path: Path) -> None:
    entries = [
        {"source": "chats", "path": str(FIXTURES / "chats"), "count": "all"},
        {"source": "tsv", "path": str(FIXTURES / "vlmevalkit/Tiny_DEV.tsv"), "count": "all"},
        {"source": "llava_cot_100k", "root": str(FIXTURES / "llava_cot_100k"), "count": "all"},
    ]
    done = run("data", "sample", recipe(tmp_path, *entries), "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr.decode()
    opened = [open_source(SourceEntry.model_validate(entry)) for entry in entries]
    given = {record.id: record for source in opened for record in source.records()}
    entry = SourceEntry(source="records", root=tmp_path / "out", split="questions")
    drawn = {record.id: record for record in open_source(entry).records()}
    # The two rows of Tiny_DEV that differ in the order of their options are one question.
    assert set(given) - set(drawn) in ({"Tiny_DEV/0"}, {"Tiny_DEV/1000000"}) and set(drawn) < set(given)
    for id, record in drawn.items():
        assert record.turns == given[id].turns and record.extra == given[id].extra
        assert [it.read() for it in record.pictures] == [it.read() for it in given[id].pictures]
        assert [it.name for it in record.pictures] == [f"images/{it.name}" for it in given[id].pictures]
    assert max(len(record.pictures) for record in drawn.values()) == 2
    assert sum(turn.response is not None for record in drawn.values() for turn in record.turns) == 4


def test_killed_at_any_moment_it_resumes_to_the_same_set(tmp_path: Path) -> None:
    file = scenes(tmp_path, 300)
    assert run("data", "sample", file, "--out", tmp_path / "whole").returncode == 0
    kills, pictures = 0, tmp_path / "out/images/scenes"
    for wait in (0, 0.02, 0.1):
        before = len(list(pictures.glob("*.png")))
        process = subprocess.Popen(
            [*COMMAND, "data", "sample", str(file), "--out", str(tmp_path / "out")],
            env=environment(), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while process.poll() is None and len(list(pictures.glob("*.png"))) == before:
            time.sleep(0.01)
        time.sleep(wait)
        kills += process.poll() is None
        process.kill()
        process.wait()
        if not (tmp_path / "out/questions.jsonl").exists():
            assert (tmp_path / "out/store.db").exists()
    assert kills > 1
    done = run("data", "sample", file, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr.decode()
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_interrupted_and_shown_on_a_terminal(tmp_path: Path) -> None:
    terminal = Terminal("data", "sample", scenes(tmp_path, 2000), "--out", tmp_path / "out")
    terminal.read_until("scenes: pictures")
    os.kill(terminal.process.pid, signal.SIGINT)
    assert terminal.end() == 130
    assert "Traceback" not in terminal.shown
    assert not (tmp_path / "out/questions.jsonl").exists()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    terminal = Terminal("data", "sample", scenes(tmp_path, 2000), "--out", tmp_path / "out")
    terminal.read_until("scenes: pictures")
    message = refusal("data", "sample", tmp_path / "recipe.yaml", "--out", tmp_path / "out")
    assert message == f"another process works on {tmp_path}/out; wait for its end, or name another folder"
    terminal.process.kill()
    terminal.end()


CLEVR = {"source": "clevr", "root": "clevr", "count": "all"}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"source": "clevr", "root": "nowhere", "count": 1}, "there is no folder"),
        ({"source": "chartqa", "root": "clevr", "count": 1}, "there is no train/train_human.json"),
        ({"source": "clevrer", "root": "clevr", "count": 1}, "there is no source 'clevrer'"),
        (CLEVR | {"colour": 1}, "sources[0].colour: there is no such field"),
        (CLEVR | {"split": "test"}, "no split 'test'"),
        (CLEVR | {"count": 9}, "has 2 records to draw"),
        ({"source": "scenes", "count": 1, "split": "nowhere"}, "unknown split 'nowhere'"),
        ({"source": "tsv", "path": "x.tsv", "count": 1}, "x.tsv"),
        ({"source": "hf", "path": "unknown/nothing", "count": 1}, "there is no folder unknown/nothing"),
    ],
)
def test_bad_input_leaves_nothing_behind(tmp_path: Path, source: dict[str, object], words: str) -> None:
    shutil.copytree(FIXTURES / "clevr", tmp_path / "clevr")
    message = refusal("data", "sample", recipe(tmp_path, source), "--out", tmp_path / "out")
    assert words in message
    assert not (tmp_path / "out").exists()


def test_a_recipe_or_folder_that_cannot_be(tmp_path: Path) -> None:
    assert "no recipe" in refusal("data", "sample", tmp_path / "no.yaml", "--out", tmp_path / "out")
    assert "holds other files" in refusal("data", "sample", scenes(tmp_path), "--out", tmp_path)
    assert "is a file" in refusal("data", "sample", scenes(tmp_path), "--out", tmp_path / "recipe.yaml")
    assert "--out" in refusal("data", "sample", scenes(tmp_path))
