"""What the endpoint model adds to a request, and what it makes of a server that fails.

    python benchmarks/endpoint.py
    python benchmarks/endpoint.py --json > figures.json
    python benchmarks/endpoint.py --quick    # does it run? The figures mean little

Overhead: many requests, 256 in flight, to a server in another process (`replying.py`) that answers at
once, and to one that answers after a quarter of a second, so that as many really are in flight. A
request's overhead is the whole time divided by the number of requests, the server's own work included,
less what the wait takes of it (250 ms / 256). In comparison, the same requests by one client of `httpx`.
Medians over the repeats, without a picture and with one of 336 x 336 pixels, each request its own; they
are encoded in the warm-up.

Faults: 500 questions to a server that fails 30% of requests at random. A question is answered if its answer
is the one that belongs to it; it is answered twice if the server had to send two whole answers for it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
from PIL import Image

from llava_cot import ask
from llava_cot.core.question import LoadedImage, load_image
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.endpoint.capabilities import Capabilities, save
from llava_cot.models.endpoint.client import EndpointModel
from llava_cot.models.endpoint.config import Provider

IN_FLIGHT = 256
_ABLE = Capabilities(
    "continue",
    many=False,
    stops=True,
    top_logprobs=0,
    prompt_logprobs=False,
    choice_tokens=3,
    seed=True,
    limit="max_tokens",
    json_schema="none",
    option_fields=(),
    randomness=("temperature", "top_p"),
    stages={},
    thinking="none",
    thinking_prefix="none",
)
_STALL = 20.0  # seconds that the model waits for a reply
_SIDE = 336


@dataclass(frozen=True)
class Overhead:
    """Milliseconds a request; `wait` is the server's, in seconds."""

    picture: bool
    wait: float
    requests: int
    ours: float
    httpx: float


@dataclass(frozen=True)
class Faults:
    """`met` counts the faults by kind; `seconds` are for all questions together."""

    questions: int
    answered: int
    twice: int
    met: dict[str, int]
    seconds: float


@contextmanager
def replying(share: float = 0.0, wait: float = 0.0) -> Iterator[str]:
    """The address of a server that answers after so many seconds, and fails that share of requests."""
    command = [sys.executable, str(Path(__file__).with_name("replying.py")), str(share), str(wait)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.terminate()


@contextmanager
def opened(url: str, seconds: float = _STALL) -> Iterator[EndpointModel]:
    """The server's model; its capabilities are saved beforehand, since it answers nothing else."""
    save(url, "fast", _ABLE)
    model = EndpointModel(Provider(url=url, model="fast", in_flight=IN_FLIGHT, seconds=seconds), None, {})
    with closing(model):
        yield model


def pictures(count: int) -> list[LoadedImage]:
    rng = np.random.default_rng(0)
    base = np.add.outer(np.arange(_SIDE), np.arange(_SIDE))[:, :, None] // 3 % 256
    spots = rng.integers(0, 256, (count, 3))
    return [load_image(Image.fromarray((base + spot).astype(np.uint8))) for spot in spots]


async def overhead(requests: int, repeats: int, picture: bool, wait: float) -> Overhead:
    images = pictures(requests) if picture else []
    prompts = [Prompt.of(f"Question {i}", (images[i],) if images else ()) for i in range(requests)]
    sampling = Sampling(temperature=0.6, top_p=0.9, max_tokens=256, stop=("</SUMMARY>",), seed=0)
    with replying(wait=wait) as url, opened(url) as model:
        bodies = [await model._body(prompt, sampling) for prompt in prompts[:IN_FLIGHT]]
        ours, theirs = [], []
        limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
        async with httpx.AsyncClient(timeout=None, limits=limits, trust_env=False) as client:
            for _ in range(repeats + 1):
                ours.append(await _timed([model.sample(prompt, 1, sampling) for prompt in prompts]))
                theirs.append(await _bare(client, url, bodies, requests))
    waited = 1000 * wait / IN_FLIGHT
    return Overhead(picture, wait, requests, median(ours[1:]) - waited, median(theirs[1:]) - waited)


async def _timed(work: Sequence[Any]) -> float:
    began = time.perf_counter()
    await asyncio.gather(*work)
    return 1000 * (time.perf_counter() - began) / len(work)


async def _bare(client: httpx.AsyncClient, url: str, bodies: Sequence[Any], requests: int) -> float:
    places = asyncio.Semaphore(IN_FLIGHT)  # the client's own line takes longer the longer it is

    async def one(body: Any) -> Any:
        async with places:
            return (await client.post(f"{url}/chat/completions", json=body)).json()

    return await _timed([one(bodies[i % len(bodies)]) for i in range(requests)])


async def faults(questions: int, share: float, stall: float) -> Faults:
    with replying(share) as url, opened(url, stall) as model:
        began = time.perf_counter()
        traces = await asyncio.gather(
            *(
                ask(
                    model, None, f"Question {i}", method="single", stages="trained", sampling=Sampling(seed=i)
                )
                for i in range(questions)
            ),
            return_exceptions=True,
        )
        seconds = time.perf_counter() - began
        told = httpx.get(url.removesuffix("/v1") + "/told").json()
    right = sum(getattr(trace, "answer", None) == str(i) for i, trace in enumerate(traces))
    twice = sum(count > 1 for count in told["told"].values())
    return Faults(questions, right, twice, told["met"], seconds)


def table(measured: Sequence[Overhead], failing: Faults) -> str:
    lines = [
        "| the server | requests | ours, ms a request | httpx alone, ms |",
        "| --- | ---: | ---: | ---: |",
    ]
    for one in measured:
        what = f"answers after {one.wait:g} s, {'with' if one.picture else 'without'} a picture"
        lines.append(f"| {what} | {one.requests} | {one.ours:.2f} | {one.httpx:.2f} |")
    met = ", ".join(f"{kind} {count}" for kind, count in sorted(failing.met.items()))
    lines += [
        "",
        "| a server that fails 30% of requests | |",
        "| --- | ---: |",
        f"| questions, answered, answered twice | {failing.questions}, {failing.answered}, {failing.twice} |",
        f"| faults met | {met} |",
        f"| seconds | {failing.seconds:.1f} |",
    ]
    return "\n".join(lines)


def measure(quick: bool) -> tuple[list[Overhead], Faults]:
    requests, repeats, questions, stall = (100, 1, 40, 2.0) if quick else (2560, 3, 500, _STALL)
    measured = [
        asyncio.run(overhead(requests, repeats, picture, wait))
        for wait in (0.0, 0.25)
        for picture in (False, True)
    ]
    return measured, asyncio.run(faults(questions, 0.3, stall))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests, once")
    parser.add_argument("--json", action="store_true", help="one object instead of the tables")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_CACHE_HOME"] = scratch  # where capabilities are saved
        measured, failing = measure(args.quick)
    if args.json:
        print(
            json.dumps({"overhead": [asdict(one) for one in measured], "faults": asdict(failing)}, indent=1)
        )
    else:
        print(table(measured, failing))


if __name__ == "__main__":
    main()
