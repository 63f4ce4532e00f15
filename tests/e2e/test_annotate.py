"""`llava-cot data annotate` as a command: with a server of a scripted teacher, and with the scenes' own."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import COMMAND, ROOT, environment, refusal, run, wait_for
from endpoint_double import Double
from teachers import Priced, moody, save

from llava_cot.models.base import Prompt
from llava_cot.scenes.items import make_items


def slow(prompt: Prompt, rng: random.Random) -> str:
    return (
        moody(prompt, rng)
        if "worked answer" in prompt.messages[-1].text or "Given answer" in str(prompt)
        else ""
    )


@pytest.fixture
def server() -> Iterator[Double]:
    with Double(Priced(slow), models=("tutor",), owner="vllm") as double:
        double.delay = 0.05
        yield double


def begin(*arguments: str | Path) -> subprocess.Popen[bytes]:
    command = [*COMMAND, "data", "annotate", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT, env=environment())


def asked(server: Double) -> int:
    return sum("worked answer" in json.dumps(body) for body in server.bodies)


def test_scenes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with (tmp_path / "in" / "questions.jsonl").open("w") as lines:
        for item in make_items("train", 0, 5):
            messages = [{"from": "human", "value": item.question.text}, {"from": "gpt", "value": item.answer}]
            known = {"question": item.question.text, "answer": item.answer, "options": item.question.options}
            lines.write(json.dumps({"id": item.id, "conversations": messages, "questions": [known]}) + "\n")
    done = run("data", "annotate", tmp_path / "in", "--teacher", "scenes", "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, b"")
    assert f"wrote {tmp_path / 'out'}: 5 records · 0 turns rejected" in done.stderr.decode()
    again = run("data", "annotate", tmp_path / "in", "--teacher", "scenes", "--out", tmp_path / "out", "-q")
    assert (again.returncode, again.stdout, again.stderr) == (0, b"", b"")


def test_killed_and_begun_again_a_server_is_asked_once(tmp_path: Path, server: Double) -> None:
    source, calm, out = save(tmp_path / "in", 30), tmp_path / "calm", tmp_path / "out"
    options = ("--teacher", server.url, "--at-once", "4", "-q")
    assert begin(source, "--out", calm, *options).wait(60) == 0
    whole, before = len(server.usages), len(server.usages)
    for _ in range(3):
        process = begin(source, "--out", out, *options)
        wait_for(lambda begun=before: len(server.usages) > begun + 5)
        process.kill()
        process.wait()
        before = len(server.usages)
    assert not (out / "train.jsonl").exists()
    assert begin(source, "--out", out, *options).wait(60) == 0
    for name in ("train.jsonl", "rejects.jsonl", "README.md"):
        assert (out / name).read_bytes() == (calm / name).read_bytes()
    assert len(server.usages) - whole <= whole + 3 * 4


def test_a_second_process_is_refused(tmp_path: Path, server: Double) -> None:
    source, out = save(tmp_path / "in", 30), tmp_path / "out"
    known = begin(source, "--out", tmp_path / "known", "--teacher", server.url, "--budget", "1", "-q")
    assert known.wait(60) == 0
    server.delay, before = 3600, asked(server)
    first = begin(source, "--out", out, "--teacher", server.url, "-q")
    wait_for(lambda: asked(server) > before)
    message = refusal("data", "annotate", source, "--out", out, "--teacher", "scenes")
    assert message == f"another process works on {out}; wait for its end, or name another folder"
    first.kill()
    first.wait()


def test_an_interrupt_keeps_what_arrives(tmp_path: Path, server: Double) -> None:
    source, out = save(tmp_path / "in", 40), tmp_path / "out"
    process = begin(source, "--out", out, "--teacher", server.url, "--at-once", "4")
    wait_for(lambda: asked(server) > 8)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert b"no new questions are sent" in errors and b"Traceback" not in errors
    sent = len(server.usages)
    dry = run("data", "annotate", source, "--out", out, "--teacher", server.url, "--dry-run")
    assert dry.returncode == 0 and dry.stderr == b"" and len(server.usages) == sent
    assert b"questions asked before" in dry.stdout or b"a guess" in dry.stdout
    assert begin(source, "--out", out, "--teacher", server.url, "-q").wait(60) == 0
    with (out / "rejects.jsonl").open() as rejects, (out / "train.jsonl").open() as train:
        assert len(list(rejects)) + len(list(train)) == 40


def test_a_second_interrupt_does_not_wait(tmp_path: Path, server: Double) -> None:
    source = save(tmp_path / "in", 5)
    assert (
        begin(source, "--out", tmp_path / "first", "--teacher", server.url, "-q").wait(60) == 0
    )  # is known now
    server.delay = 3600
    before = asked(server)
    process = begin(source, "--out", tmp_path / "out", "--teacher", server.url)
    wait_for(lambda: asked(server) > before)
    assert process.stderr is not None
    process.send_signal(signal.SIGINT)
    assert b"no new questions are sent" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert b"Traceback" not in process.stderr.read()


def test_a_budget_ends_it_and_a_higher_one_resumes(tmp_path: Path, server: Double) -> None:
    source, out = save(tmp_path / "in", 12), tmp_path / "out"
    command = ("data", "annotate", source, "--out", out, "--teacher", server.url, "--budget")
    first = run(*command, "5")
    assert first.returncode == 0
    assert (
        b"still pending: 7 records (the budget of 5 questions is spent); run the command again to resume"
        in first.stderr
    )
    assert "**Not complete:** 7" in (out / "README.md").read_text()
    assert asked(server) <= 10
    second = run(*command, "100")
    assert second.returncode == 0 and b"still pending" not in second.stderr


def test_a_server_that_fails_leaves_questions_pending(tmp_path: Path, server: Double) -> None:
    source, out = save(tmp_path / "in", 3), tmp_path / "out"
    assert begin(source, "--out", tmp_path / "first", "--teacher", server.url, "-q").wait(60) == 0
    server.wait = "1000"  # seconds, which is out of quota
    server.faults.extend(["429"])
    failed = run("data", "annotate", source, "--out", out, "--teacher", server.url, "--at-once", "1")
    assert failed.returncode == 1
    assert b"still pending: 1 record (1 failed); run the command again to resume" in failed.stderr
    assert run("data", "annotate", source, "--out", out, "--teacher", server.url).returncode == 0


def test_bad_input(tmp_path: Path) -> None:
    source, out = save(tmp_path / "in", 2), tmp_path / "out"
    teach = ("--teacher", "scenes", "--out", out)
    assert "no questions.jsonl" in refusal("data", "annotate", tmp_path, *teach)
    assert "there are no records at" in refusal("data", "annotate", tmp_path / "none", *teach)
    assert "neither money" in refusal("data", "annotate", source, *teach, "--budget", "much")
    assert "--at-once is 0" in refusal("data", "annotate", source, *teach, "--at-once", "0")
    assert "holds other files" in refusal("data", "annotate", source, "--teacher", "scenes", "--out", source)
    assert "is a file" in refusal(
        "data", "annotate", source, "--teacher", "scenes", "--out", source / "questions.jsonl"
    )
    unknown = ("data", "annotate", source, "--teacher", "unknown", "--out", tmp_path / "new")
    assert "no folder unknown" in refusal(*unknown)
    assert "is not a folder, an address" in refusal(*unknown, "--dry-run")
    assert not (tmp_path / "new").exists()
    with (source / "questions.jsonl").open("a") as lines:
        lines.write("{}\n")
    assert "questions.jsonl, line 3: it is no record" in refusal(
        "data", "annotate", source, "--teacher", "scenes", "--out", tmp_path / "third"
    )


def test_a_store_that_is_damaged(tmp_path: Path) -> None:
    source, out = save(tmp_path / "in", 2), tmp_path / "out"
    out.mkdir()
    (out / "store.db").write_bytes(os.urandom(5000))
    message = refusal("data", "annotate", source, "--teacher", "scenes", "--out", out)
    assert "store.db is damaged" in message
