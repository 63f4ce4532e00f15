"""Runs `llava-cot` as a user's shell does."""

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# What servers can do is kept there.
CACHE = tempfile.TemporaryDirectory()
COMMAND = [sys.executable, "-m", "llava_cot"]


def environment() -> dict[str, str]:
    """A plain one, without a network to fall back on."""
    kept = {
        key: os.environ[key] for key in ("PATH", "HOME", "PYTHONPATH", "OMP_NUM_THREADS") if key in os.environ
    }
    return kept | {"HF_HUB_OFFLINE": "1", "LANG": "C.UTF-8", "XDG_CACHE_HOME": CACHE.name}


@cache
def _forking() -> socket.socket:
    """What commands are sent to: see `forked.py`."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, ROOT / "tests/forked.py", str(theirs.fileno())]
        subprocess.Popen(command, cwd=ROOT, env=environment(), pass_fds=[theirs.fileno()])
    return ours


def run(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The finished command; its outputs are bytes."""
    command = [*map(str, arguments)]
    request = {"arguments": command, "environment": environment(), "folder": str(ROOT)}
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        streams = [given.fileno(), out.fileno(), err.fileno()]
        socket.send_fds(_forking(), [json.dumps(request).encode()], streams)
        replies = _forking().makefile()
        child = int(replies.readline())
        stopping = threading.Timer(120, os.kill, (child, signal.SIGKILL))
        stopping.start()
        status = int(replies.readline())
        stopping.cancel()
        out.seek(0), err.seek(0)
        return subprocess.CompletedProcess(command, status, out.read(), err.read())


def figures(benchmark: str, *arguments: str) -> Any:
    """What a benchmark measures when it is run in short."""
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / benchmark, "--quick", "--json", *arguments],
        capture_output=True,
        check=False,
        timeout=300,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Terminal:
    """A command whose outputs go to a terminal, which is read from."""

    def __init__(self, *arguments: str | Path) -> None:
        self._leader, follower = pty.openpty()
        command = [*COMMAND, *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=follower, stdout=follower, stderr=follower, cwd=ROOT, env=environment()
        )
        os.close(follower)
        self.shown = ""

    def read_until(self, text: str) -> None:
        """Read on until the text has been shown. Raises EOFError if the command ends first."""
        while text not in self.shown:
            try:
                part = os.read(self._leader, 4096)
            except OSError:  # how Linux says that nobody writes any more
                part = b""
            if not part:
                raise EOFError(self.shown)
            self.shown += part.decode(errors="replace")

    def end(self) -> int:
        """Read to the end; the exit status."""
        with contextlib.suppress(EOFError):
            self.read_until("\0")
        os.close(self._leader)
        return self.process.wait(timeout=60)


def refusal(*arguments: str | Path, stdin: bytes = b"") -> str:
    """The one sentence with which the command refused its input, with exit status 2."""
    result = run(*arguments, stdin=stdin)
    told = result.stderr.decode()
    assert result.returncode == 2, told
    assert result.stdout == b""
    assert told.startswith("llava-cot: ") and told.count("\n") == 1, told
    assert "Traceback" not in told and "[Errno" not in told
    return told.removeprefix("llava-cot: ").rstrip("\n")
