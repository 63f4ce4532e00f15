"""Servers on a local port, in a thread or as a command, and clients of them."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import openai
import uvicorn
from command import COMMAND, ROOT, environment
from playing import WORDS, tagged

from llava_cot.models.base import Continuation, Model, OnText, Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.resources import Resources
from llava_cot.server.api import api_url, listen, make_app, server_config
from llava_cot.server.service import ServerSettings

REASONING = "\n\n".join(text for stage, text in WORDS.items() if stage != "conclusion")
# A busy machine is no reason to fail.
PATIENCE = 120.0
get = partial(httpx.get, timeout=PATIENCE)
ASK: list[Any] = [{"role": "user", "content": "How many?"}]


def noisy(prompt: Prompt, rng: Any) -> str:
    """Continues a staged answer with a random digit as conclusion; answers judges' prompts with a verdict."""
    text = prompt.messages[0].text
    if "Verdict:" in text:
        return "It holds. Verdict: correct."
    if "I choose response" in text:
        return f"Since it is better, I choose response {rng.choice((1, 2))}."
    begun = [stage for stage in WORDS if f"<{stage.upper()}>" in prompt.prefix]
    words = WORDS | {"conclusion": str(rng.randrange(10))}
    return "\n\n".join(tagged(stage, words[stage]) for stage in WORDS if stage not in begun)


class Patient(ScriptedModel):
    """Answers only after `go` is set; counts the calls that wait."""

    def __init__(self) -> None:
        super().__init__(noisy)
        self.go = threading.Event()
        self.waiting = 0

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        self.waiting += 1
        try:
            while not self.go.is_set():
                await asyncio.sleep(0.01)
        finally:
            self.waiting -= 1
        return await super().sample(prompt, n, sampling, on_text)


@dataclass(frozen=True)
class Served:
    """A running server. `url` ends with /v1."""

    url: str

    @property
    def root(self) -> str:
        return self.url.removesuffix("/v1")

    def client(self, **settings: Any) -> openai.OpenAI:
        return openai.OpenAI(**{"base_url": self.url, "api_key": "none", "max_retries": 0} | settings)

    @contextmanager
    def left(self, body: dict[str, Any]) -> Iterator[None]:
        """A client that sends a request and disconnects at the end of the block."""
        connection = http.client.HTTPConnection(*self.root.removeprefix("http://").split(":"))
        connection.request(
            "POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"}
        )
        try:
            yield
        finally:
            connection.close()

    def counted(self, metric: str) -> float:
        """A metric's value, or the sum of all whose name and labels begin so."""
        lines = get(f"{self.root}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(metric))

    def ask(self, **settings: Any) -> Any:
        """One request with the official client; a stream is read to its end."""
        with self.client() as client:
            reply = client.chat.completions.create(
                **{"model": "scripted", "messages": ASK, "seed": 0} | settings
            )
            return list(reply) if settings.get("stream") else reply


@contextmanager
def served(
    model: Model, settings: ServerSettings | None = None, resources: Resources | None = None
) -> Iterator[Served]:
    with closing(listen("127.0.0.1", 0)) as listening:
        settings = settings or ServerSettings()
        server = uvicorn.Server(server_config(make_app(model, settings, resources), settings))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Served(api_url(listening))
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def running(
    *arguments: str, files: int | None = None, **variables: str
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The command, with at most so many open files, and the URL that it prints."""
    limited = ["bash", "-c", f'ulimit -n {files}; exec "$@"', "bash"] if files else []
    process = subprocess.Popen(
        [*limited, *COMMAND, "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment() | variables,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline().decode()
        if line.startswith("caches of "):  # what fits into the memory of a local model
            line = process.stderr.readline().decode()
        found = re.fullmatch(r"serving \S+ at (http://127\.0\.0\.1:\d+/v1)\n", line)
        assert found, line
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)
