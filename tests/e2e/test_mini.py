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
    assert script(sys.executable, "-c", code) in ("yes\n", "no\n")


def test_the_first_question() -> None:
    result = run("ask", "examples/scene.png", QUESTION, "-n", "4", "--json")
    assert (result.returncode, result.stderr) == (0, b"")
    reply = json.loads(result.stdout)
    assert reply["model"] == "mini"
    assert all(reply["stages"].values())
    assert reply["answer"] == "5"


def test_a_prompt_that_is_too_long() -> None:
    assert "ask something shorter" in refusal("ask", "examples/scene.png", "why " * 3000)


def test_the_readme_shows_what_is_shown() -> None:
    """The answer in the README is the one that its command gives."""
    [block] = re.findall(
        r"```\n\$ llava-cot ask (\S+) \"(.*?)\"(.*?)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    image, question, options, shown = block
    result = run("ask", image, question, *options.replace("\\\n", " ").split())
    assert result.returncode == 0
    conclusion = shown.partition("Conclusion\n")[2].splitlines()[0]
    assert result.stdout.decode() == conclusion + "\n"


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
