"""The server under load: throughput of many clients compared with one, and memory over many requests.

    python benchmarks/serve.py                       # 64 clients, 2,000 requests for the memory
    python benchmarks/serve.py --name mini:single    # another method
    python benchmarks/serve.py --json > figures.json
    python benchmarks/serve.py --quick               # a smoke test; the figures mean little

Starts `llava-cot serve` on a free port and sends it questions about scenes, each with its own picture, so
that no answer is cached. First, one client sends one question after another. Then all clients send one each
at the same time; throughput is answered questions per second, the median over the repeats. Then all clients
send one question after another, and the resident memory of the server is read from /metrics after each tenth
of the requests. The first quarter fills the bounded caches; growth is counted from there. A reply whose
status is not 200 counts as failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import httpx

from llava_cot.core.question import question_text
from llava_cot.models.endpoint.prompts import data_url
from llava_cot.scenes.items import make_item

_TENTHS = 10


@dataclass(frozen=True)
class Sizes:
    """The numbers of clients and requests."""

    clients: int
    alone: int  # questions of the single client
    repeats: int
    requests: int  # for the memory


@dataclass(frozen=True)
class Result:
    """The figures: rates in questions per second, memory in MiB."""

    clients: int
    asked: int
    failed: int
    alone: float
    together: float
    times: float
    requests: int
    memory: tuple[float, ...]
    growth: float


@contextmanager
def serving(model: str, clients: int, cache_mb: int) -> Iterator[str]:
    """Run a server; gives the URL of its API."""
    command = [sys.executable, "-m", "llava_cot", "serve", "--model", model, "--port", "0"]
    command += ["--at-once", str(clients), "--max-waiting", str(clients), "--cache-mb", str(cache_mb)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        if line.startswith("caches of "):
            line = process.stderr.readline()
        found = re.search(r"http://\S+/v1", line)
        if found is None:
            raise SystemExit(f"the server did not start: {line}")
        try:
            yield found[0]
        finally:
            process.terminate()


def body(name: str, index: int) -> dict[str, Any]:
    """A request about the scene of this index."""
    question = make_item("validation", 0, index).ask()
    content = [
        {"type": "image_url", "image_url": {"url": data_url(question.images[0], None)}},
        {"type": "text", "text": question_text(question)},
    ]
    return {"model": name, "messages": [{"role": "user", "content": content}], "seed": index}


async def answered(client: httpx.AsyncClient, request: dict[str, Any]) -> bool:
    reply = await client.post("/chat/completions", json=request)
    return reply.status_code == 200


async def memory(client: httpx.AsyncClient) -> float:
    """Resident memory of the server, in MiB."""
    reply = await client.get(client.base_url.copy_with(path="/metrics"))
    found = re.search(r"^process_resident_memory_bytes (\S+)$", reply.text, re.MULTILINE)
    assert found, reply.text
    return float(found[1]) / 2**20


async def measure(address: str, name: str, sizes: Sizes) -> Result:
    limits = httpx.Limits(max_connections=sizes.clients)
    async with httpx.AsyncClient(base_url=address, timeout=None, limits=limits) as client:
        await answered(client, body(name, 0))
        done = [True]
        fresh = iter(range(1, 10**9))

        requests = [body(name, next(fresh)) for _ in range(sizes.alone)]
        began = time.perf_counter()
        for request in requests:
            done.append(await answered(client, request))
        alone = sizes.alone / (time.perf_counter() - began)

        rates = []
        for _ in range(sizes.repeats):
            requests = [body(name, next(fresh)) for _ in range(sizes.clients)]
            began = time.perf_counter()
            done += await asyncio.gather(*(answered(client, request) for request in requests))
            rates.append(sizes.clients / (time.perf_counter() - began))

        used = []
        for tenth in range(_TENTHS):
            _log(f"memory: {tenth} of {_TENTHS} parts of {sizes.requests} requests")
            done += await crowd(client, name, fresh, sizes.requests // _TENTHS, sizes.clients)
            used.append(await memory(client))
    together = median(rates)
    return Result(
        sizes.clients,
        asked=len(done) - 1,
        failed=done.count(False),
        alone=alone,
        together=together,
        times=together / alone,
        requests=sizes.requests,
        memory=tuple(used),
        growth=used[-1] - used[_TENTHS // 4],
    )


async def crowd(
    client: httpx.AsyncClient, name: str, fresh: Iterator[int], requests: int, clients: int
) -> list[bool]:
    """Send requests from several clients at once, each one after another, until all are sent."""
    todo = iter(range(requests))
    done: list[bool] = []

    async def one() -> None:
        for _ in todo:
            done.append(await answered(client, body(name, next(fresh))))

    await asyncio.gather(*(one() for _ in range(clients)))
    return done


def table(result: Result) -> str:
    return "\n".join(
        [
            "| | |",
            "| --- | ---: |",
            f"| questions asked, failed | {result.asked}, {result.failed} |",
            f"| one client after another, questions a second | {result.alone:.2f} |",
            f"| {result.clients} clients at once, questions a second | {result.together:.2f} |",
            f"| times | {result.times:.1f} |",
            f"| memory after each tenth of {result.requests} requests, MiB "
            f"| {', '.join(f'{used:.0f}' for used in result.memory)} |",
            f"| growth after the first quarter, MiB | {result.growth:.0f} |",
        ]
    )


def _log(text: str) -> None:
    print(text, file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mini", help="mini, or the folder of a checkpoint")
    parser.add_argument("--name", help="the model's name in requests, with a method; the model if not given")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=2000, help="for the memory")
    parser.add_argument("--cache-mb", type=int, default=2048, help="of the server; a small one is full soon")
    parser.add_argument("--quick", action="store_true", help="4 clients, 10 requests")
    parser.add_argument("--json", action="store_true", help="one object instead of the table")
    args = parser.parse_args(arguments)
    if args.clients < 1 or args.requests < _TENTHS:
        parser.error(f"give at least one client and {_TENTHS} requests")
    sizes = Sizes(4, 2, 1, _TENTHS) if args.quick else Sizes(args.clients, 16, 3, args.requests)
    with serving(args.model, sizes.clients, args.cache_mb) as address:
        name = args.name or httpx.get(f"{address}/models").json()["data"][0]["id"]
        result = asyncio.run(measure(address, name, sizes))
    about = {"model": args.model, "name": name, "cores": os.cpu_count()}
    if args.json:
        print(json.dumps({**about, **asdict(result)}, indent=1))
    else:
        print(", ".join(f"{key} {value}" for key, value in about.items()) + "\n")
        print(table(result))


if __name__ == "__main__":
    main()
