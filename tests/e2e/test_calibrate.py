"""`llava-cot judge calibrate` as a command, broken off."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from command import COMMAND, ROOT, environment, refusal, wait_for
from endpoint_double import Double
from teachers import save, staged

from llava_cot.models.scripted import ScriptedModel


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    source = save(tmp_path / "in", 12)
    out = tmp_path / "out"
    out.mkdir()
    model = ScriptedModel(lambda prompt, rng: staged("1")[len(prompt.prefix) :])
    begun = ("judge", "calibrate", "--judge", "likelihood", "--from", source, "--out", out / "c.json")
    with Double(model, models=("someone",), owner="vllm") as server:
        server.delay = 1.0
        with subprocess.Popen(
            [*COMMAND, *map(str, begun), "--model", server.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=environment(),
        ) as process:
            wait_for(lambda: len(server.usages) > 3)
            process.send_signal(signal.SIGINT)
            told, errors = process.communicate(timeout=60)
        assert (process.returncode, told) == (130, b""), errors
        assert b"Traceback" not in errors
    assert list(out.iterdir()) == []


def test_what_is_no_judge(tmp_path: Path) -> None:
    told = refusal("judge", "calibrate", "--judge", "self", "--out", tmp_path / "c.json")
    assert told.startswith("there is no judge 'self' that gives scores; choose one of ")
