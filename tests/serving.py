"""Servers that listen on a port of this machine, in a thread, and clients to them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import openai
import uvicorn
from playing import WORDS, tagged

from llava_cot.models.base import Continuation, Model, OnText, Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.serve.answering import Settings
from llava_cot.serve.api import make_app
from llava_cot.serve.run import address, listen

REASONING = "\n\n".join(text for stage, text in WORDS.items() if stage != "conclusion")
ASK: list[Any] = [{"role": "user", "content": "How many?"}]


def noisy(prompt: Prompt, rng: Any) -> str:
    """Goes on with the answer in stages, its conclusion of one digit; judges when asked to judge."""
    asked = prompt.messages[0].text
    if "Verdict:" in asked:
        return "It holds. Verdict: correct."
    if "I choose response" in asked:
        return f"Since it is better, I choose response {rng.choice((1, 2))}."
    begun = [stage for stage in WORDS if f"<{stage.upper()}>" in prompt.prefix]
    words = WORDS | {"conclusion": str(rng.randrange(10))}
    return "\n\n".join(tagged(stage, words[stage]) for stage in WORDS if stage not in begun)


class Patient(ScriptedModel):
    """Answers once it is let; counts who waits."""

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
    """A server that runs. `url` ends with /v1."""

    url: str

    @property
    def root(self) -> str:
        return self.url.removesuffix("/v1")

    def client(self, **settings: Any) -> openai.OpenAI:
        return openai.OpenAI(**{"base_url": self.url, "api_key": "none", "max_retries": 0} | settings)

    def ask(self, **settings: Any) -> Any:
        """One request with the official client; a stream is read to its end."""
        with self.client() as client:
            reply = client.chat.completions.create(
                **{"model": "scripted", "messages": ASK, "seed": 0} | settings
            )
            return list(reply) if settings.get("stream") else reply


@contextmanager
def served(model: Model, settings: Settings | None = None) -> Iterator[Served]:
    with closing(listen("127.0.0.1", 0)) as listening:
        app = make_app(model, settings or Settings())
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Served(address(listening))
        finally:
            server.should_exit = True
            thread.join()


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something that is to come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)
