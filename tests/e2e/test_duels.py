"""`llava-cot data duels` as it is typed, with mini on a handful of scenes."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command import COMMAND, ROOT, environment, refusal, run

from llava_cot.data.record import Picture, Record, Turn, from_json, to_json
from llava_cot.scenes.items import make_items
from llava_cot.search.judge_prompts import parse_check, parse_choice


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    (folder / "images").mkdir()
    with (folder / "questions.jsonl").open("w") as lines:
        for item in make_items("validation", 5, 8):
            item.picture().save(folder / f"images/{item.id}.png")
            turn = Turn(item.question.text, item.answer, item.question.options)
            record = Record(f"scenes/{item.id}", (turn,), (Picture(f"images/{item.id}.png"),), "scenes")
            lines.write(json.dumps(to_json(record)) + "\n")
    return folder


def test_killed_and_interrupted_it_ends_as_if_it_had_not_been(questions: Path, tmp_path: Path) -> None:
    options = ("--model", "mini", "--rollouts", "2", "--seed", "4", "--out")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    done = run("data", "duels", questions, *options, whole)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b"" and b"from 8 questions" in done.stderr
    records = [
        from_json(json.loads(line), whole) for line in (whole / "train.jsonl").read_text().splitlines()
    ]
    assert records
    for record in records:
        read = parse_choice if record.extra["kind"] == "duel" else parse_check
        assert read(record.turns[0].response or "") is not None
        assert all(picture.read() for picture in record.pictures)

    for sent, status, changes in ((signal.SIGKILL, -9, 3), (signal.SIGINT, 130, 2)):
        arguments = ["data", "duels", questions, *options, broken, "--at-once", "1"]
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)], cwd=ROOT, env=environment(), stderr=subprocess.PIPE
        )
        seen = [size(broken)]
        while len(seen) <= changes and process.poll() is None:  # the store, made and with a question or two
            time.sleep(0.02)
            seen += [now] if (now := size(broken)) != seen[-1] else []
        process.send_signal(sent)
        output = process.communicate(timeout=60)[1].decode()
        assert process.returncode == status, output
        assert "Traceback" not in output
        assert not (broken / "train.jsonl").exists()
    assert "finished work is kept" in output
    again = run("data", "duels", questions, *options, broken)
    assert again.returncode == 0, again.stderr.decode()
    for name in ("train.jsonl", "duels.json"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("store.db-wal"))


def test_bad_input(questions: Path, tmp_path: Path) -> None:
    def refused(source: Path, *more: str | Path) -> str:
        return refusal("data", "duels", source, "--model", "mini", *more)

    out = ("--out", tmp_path / "out")
    assert "there are no records at" in refused(tmp_path / "nowhere", *out)
    assert "no stage 'picture'" in refused(questions, *out, "--stages", "picture")
    assert "no stage is named" in refused(questions, *out, "--stages", ",")
    assert "above 0.5" in refused(questions, *out, "--sure", "0.4")
    assert "at least 2 candidates" in refused(questions, *out, "--candidates", "1")
    assert "holds other files" in refused(questions, "--out", questions)
    unknown = tmp_path / "unknown.jsonl"
    unknown.write_text(json.dumps(to_json(Record("1", (Turn("Why?"),)))) + "\n")
    assert "no question whose answers can be checked" in refused(unknown, *out)
    unknown.write_text("{}\n")
    assert "line 1: it is no record" in refused(unknown, *out)
    assert not (tmp_path / "out").exists()
