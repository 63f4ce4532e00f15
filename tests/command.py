"""Runs `llava-cot` as a user's shell does."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "llava_cot"]


def environment() -> dict[str, str]:
    """A plain one, without a network to fall back on."""
    kept = {
        key: os.environ[key] for key in ("PATH", "HOME", "PYTHONPATH", "OMP_NUM_THREADS") if key in os.environ
    }
    return kept | {"HF_HUB_OFFLINE": "1", "LANG": "C.UTF-8"}


def run(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The finished command; its outputs are bytes."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(
        command, input=stdin, capture_output=True, check=False, timeout=120, cwd=ROOT, env=environment()
    )


def refusal(*arguments: str | Path, stdin: bytes = b"") -> str:
    """The one sentence with which the command refused its input, with exit status 2."""
    result = run(*arguments, stdin=stdin)
    told = result.stderr.decode()
    assert result.returncode == 2, told
    assert result.stdout == b""
    assert told.startswith("llava-cot: ") and told.count("\n") == 1, told
    assert "Traceback" not in told and "[Errno" not in told
    return told.removeprefix("llava-cot: ").rstrip("\n")
