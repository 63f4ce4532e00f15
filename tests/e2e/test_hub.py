"""A model on the hub through the command, in a process of its own, with the environment that users set."""

from __future__ import annotations

import subprocess
from pathlib import Path

from command import COMMAND, ROOT, environment
from hub_double import TOKEN, running_hub

from llava_cot.models.registry import MINI

QUESTION = ("examples/scene.png", "How many objects are there?", "--method", "single", "--temperature", "0")


def ask(model: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "ask", *QUESTION, "--model", model]
    settings = environment() | {"HF_HUB_OFFLINE": "0"} | variables
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False)


def test_an_answer_by_a_model_on_the_hub(tmp_path: Path) -> None:
    with running_hub() as hub:
        commit = hub.add("org/mini", MINI)
        hub.repos["org/mini"].private = True
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_TOKEN": TOKEN}
        first = ask("org/mini", **settings)
        assert first.returncode == 0 and first.stdout, first.stderr
        assert first.stderr.startswith(f"downloading org/mini ({commit[:7]}): ")
        assert TOKEN not in first.stderr and "\N{REPLACEMENT CHARACTER}" not in first.stderr
        wrong = ask("org/mimi", **settings)
        assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1
        assert "no folder org/mimi, and no model of that name on the hub" in wrong.stderr
