"""What a new user does first, on the built-in model: the README's words and the examples, as they stand."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import ROOT, environment, refusal, run

QUESTION = (
    "Remove all blue rubber objects. Remove all rubber cubes. Add 2 small cylinders. "
    "How many objects are left now?"
)


def script(*command: str | Path) -> str:
    """The output of a script that succeeds, with `llava-cot` on its path."""
    env = environment()
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    result = subprocess.run(
        [str(word) for word in command], cwd=ROOT, env=env, capture_output=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode()


def test_the_readme_s_python_runs() -> None:
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    first, second = script(sys.executable, "-c", code).splitlines()
    assert re.fullmatch(r"Is there a metal cylinder\? (yes|no) \d+", first)
    assert re.fullmatch(r"How many objects are there\? \d+ \d+", second)


def test_the_first_question() -> None:
    result = run("ask", "examples/scene.png", QUESTION, "-n", "4", "--judge", "likelihood", "--json")
    assert (result.returncode, result.stderr) == (0, b"")
    reply = json.loads(result.stdout)
    assert reply["model"] == "mini"
    assert all(reply["stages"].values())
    assert reply["answer"] == "5"


def test_a_prompt_that_is_too_long() -> None:
    assert "ask something shorter" in refusal("ask", "examples/scene.png", "why " * 3000)


@pytest.mark.parametrize("name", ["methods.py", "many.py"])
def test_the_examples_run(name: str) -> None:
    assert script(sys.executable, ROOT / "examples" / name).strip()


def test_the_tour_runs(tmp_path: Path) -> None:
    (tmp_path / "llava-cot").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llava_cot "$@"\n')
    (tmp_path / "llava-cot").chmod(0o755)
    script(
        "env",
        f"PATH={tmp_path}{os.pathsep}{os.environ['PATH']}",
        "bash",
        "examples/tour.sh",
        tmp_path / "out",
    )
    assert (tmp_path / "out" / "trace.html").read_text().startswith("<!doctype html>")
    assert len((tmp_path / "out" / "scenes" / "questions.jsonl").read_text().splitlines()) == 8
