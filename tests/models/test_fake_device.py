"""On an accelerator: the same results as on the CPU, no tensor in the wrong place, one wait a step."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("device")
    command = [sys.executable, str(ROOT / "tests" / "on_fake_device.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_an_accelerator_gives_what_the_cpu_gives(report: Any) -> None:
    assert {name: result for name, result in report["checks"].items() if result != "same"} == {}


@pytest.mark.slow
def test_no_tensor_of_the_cpu_meets_one_of_the_accelerator(report: Any) -> None:
    assert report["mixed"] == {}


@pytest.mark.slow
def test_a_step_of_decoding_waits_for_the_accelerator_once(report: Any) -> None:
    assert set(report["steps"]) == {"1"}
