"""`llava-cot reproduce` as a command: in small on scenes that are no test, and at a scripted server."""

from __future__ import annotations

import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import COMMAND, ROOT, environment, refusal, run, wait_for
from endpoint_double import Double
from teachers import save, staged

from llava_cot.evaluation.results import RunResults
from llava_cot.models.base import Prompt
from llava_cot.models.registry import MINI
from llava_cot.models.scripted import ScriptedModel
from research.paper.tasks import ReproductionTask, search_tasks

# Another copy of mini stands for the judge that is trained from it.
SMALL = (
    *("--quick", "--benchmark", "scenes-hard:validation", "--judge-model", str(MINI)),
    *("--limit", "2", "--max-tokens", "150", "--processes", "2"),
)


def answers(out: Path) -> int:
    """How many are kept in all folders."""
    folders = [file.parent for file in out.glob("*/store.db")]
    if not folders:
        return 0
    with RunResults(folders) as results:
        return sum(len(results.results(setting)) for setting in results.runs)


def expected(tasks: list[ReproductionTask], questions: int) -> int:
    return questions * sum(len(task.methods) for task in tasks)


def test_mini_in_two_processes_killed_and_resumed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [*COMMAND, "reproduce", *SMALL, "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT, env=environment())
    wait_for(lambda: any(file.stat().st_size > 50_000 for file in out.rglob("store.db-wal")))
    process.kill()
    process.communicate()
    done = run("reproduce", *SMALL, "--out", out)
    assert done.returncode == 0, done.stderr
    assert answers(out) == expected(search_tasks("mini", str(MINI), [0]), 2)
    told = done.stdout.decode()
    assert all(f"\n{number}. " in f"\n{told}" for number in range(2, 5)) and "staged training" not in told
    report = (out / "report.md").read_text()
    assert report.startswith("# LLaVA-CoT") and all(line.strip() in report for line in told.splitlines())
    assert (out / "report.html").is_file()
    again = run("reproduce", *SMALL, "--out", out)
    assert again.stdout == done.stdout and answers(out) == expected(search_tasks("mini", str(MINI), [0]), 2)


def test_a_signal_to_the_first_process_ends_all(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [*COMMAND, "reproduce", *SMALL, "--limit", "4", "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT, env=environment())
    wait_for(lambda: len(list(out.rglob("store.db-wal"))) == 2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(list(out.glob("*/store.db"))) == 2  # what ran was waited for, and nothing more was begun


def unsure(prompt: Prompt, rng: random.Random) -> str:
    asked = prompt.messages[-1].text
    if "Verdict:" in asked or "I choose response" in asked:
        return rng.choice(
            ("Verdict: correct. I choose response 1.", "Verdict: correct. I choose response 2.")
        )
    return staged(rng.choice(("1", "2")))[len(prompt.prefix) :]


@pytest.fixture
def server() -> Iterator[Double]:
    with Double(ScriptedModel(unsure), models=("someone",), owner="vllm") as double:
        yield double


def test_another_model_answers_three_of_the_four(tmp_path: Path, server: Double) -> None:
    source, out = save(tmp_path / "in", 3), tmp_path / "out"
    done = run("reproduce", "--model", server.url, "--benchmark", source, "--seeds", "2", "--out", out)
    assert done.returncode == 0, done.stderr
    told = done.stdout.decode()
    assert "staged training" not in told
    assert all(f"\n{number}. " in f"\n{told}" for number in (2, 3, 4))
    assert answers(out) == expected(search_tasks(server.url, None, [0, 1]), 3)


def test_missing_answers_are_reported(tmp_path: Path, server: Double) -> None:
    source, out = save(tmp_path / "in", 2), tmp_path / "out"
    arguments = ("reproduce", "--model", server.url, "--benchmark", source, "--seeds", "1", "--out", out)
    # What the server can do is found out once, before anything fails.
    first = ("eval", source, "--model", server.url, "--limit", "1", "--out", tmp_path / "first")
    assert run(*first).returncode == 0
    server.wait = "1000"  # seconds, which is out of quota
    server.faults.extend(["429"] * 60)  # more than all attempts of what is in flight at once
    done = run(*arguments)
    assert done.returncode == 1
    assert b"count as wrong" in done.stderr and (out / "report.html").is_file()
    assert run(*arguments).returncode == 0


def test_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file" in refusal("reproduce", "--quick", "--judge-model", "mini", "--out", tmp_path / "file")
    assert "there is no benchmark 'nothing'" in refusal("reproduce", "--benchmark", "nothing")
    assert "--quick trains no models" in refusal("reproduce", "--quick", "--base", "mini")
    assert "there is no model nowhere" in refusal("reproduce", "--quick", "--judge-model", "nowhere")
