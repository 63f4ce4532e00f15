"""The command line on a model that vLLM runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import httpx
import psutil
import pytest
from command import COMMAND
from opening import noise

FORMAT = ("--format", "look=a e,answer=o s")


@pytest.fixture
def picture(tmp_path: Path) -> str:
    file = tmp_path / "noise.png"
    noise(1).pil.save(file)
    return str(file)


def test_ask_prints_one_object_and_nothing_else(folder: Path, picture: str) -> None:
    settings = ("--method", "stage-beam", "--max-tokens", "20", "--cache-mb", "64", "--json", *FORMAT)
    command = [*COMMAND, "ask", picture, "How many?", "--model", f"vllm:{folder}", *settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == folder.name
    assert "Traceback" not in done.stderr


def test_serve_answers_and_an_interrupt_ends_it_with_all_its_processes(folder: Path, picture: str) -> None:
    command = [*COMMAND, "serve", "--model", f"vllm:{folder}", "--port", "0", "--cache-mb", "64", *FORMAT]
    # In a group of its own, to which the interrupt goes as a terminal sends it.
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as server:
        assert server.stderr is not None
        line = next(line for line in server.stderr if line.startswith("serving"))
        body = {
            "model": folder.name,
            "messages": [{"role": "user", "content": "How many?"}],
            "max_tokens": 20,
        }
        reply = httpx.post(f"{line.split()[-1]}/chat/completions", json=body, timeout=300)
        assert reply.status_code == 200, reply.text
        assert reply.json()["usage"]["completion_tokens"] > 0
        started = psutil.Process(server.pid).children(recursive=True)
        assert started
        os.killpg(server.pid, signal.SIGINT)
        rest = server.stderr.read()
        assert server.wait(60) == 0
    assert "Traceback" not in rest
    deadline = time.monotonic() + 20
    while any(one.is_running() and one.status() != "zombie" for one in started):
        assert time.monotonic() < deadline
        time.sleep(0.1)
