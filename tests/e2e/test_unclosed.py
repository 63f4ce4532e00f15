"""Programs that end, however they do, without closing the model: no hang, no crash, no noise."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from command import ROOT, environment

BEGIN = """
import os, signal, sys, threading, time
from llava_cot import Sampling, ask_sync, open_model

model = open_model(sys.argv[1])
"""
ASK = 'ask_sync(model, "examples/scene.png", "How many?", method="single", sampling=Sampling(max_tokens=4))\n'

# Interrupts that come while a pass of the engine runs, the later ones while the program waits for its end.
INTERRUPTED = """
step = model._engine.step

def slow():
    busy.set()
    time.sleep(1.5)
    step()

def interrupt():
    busy.wait()
    for _ in range(3):
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

busy = threading.Event()
model._engine.step = slow
threading.Thread(target=interrupt, daemon=True).start()
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make("mllama", tmp_path_factory.mktemp("models") / "tiny")


@pytest.mark.parametrize(
    ("ends", "status", "interrupts"),
    [
        (ASK, 0, 0),
        (ASK + "sys.exit(3)", 3, 0),
        (ASK + "raise KeyboardInterrupt", -signal.SIGINT, 1),
        (INTERRUPTED + ASK, -signal.SIGINT, 1),
    ],
    ids=["end", "exit", "interrupt", "interrupts"],
)
def test_a_program_may_end_without_closing(checkpoint: Path, ends: str, status: int, interrupts: int) -> None:
    result = subprocess.run(
        [sys.executable, "-c", BEGIN + ends, str(checkpoint)],
        cwd=ROOT, env=environment(), capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    told = result.stderr.decode()
    assert (result.returncode, result.stdout) == (status, b""), told
    assert re.findall(r"^KeyboardInterrupt\b", told, re.MULTILINE) == ["KeyboardInterrupt"] * interrupts, told
    assert told.endswith("\nKeyboardInterrupt\n" if interrupts else "") and bool(told) == bool(interrupts)
