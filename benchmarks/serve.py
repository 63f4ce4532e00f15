"""How a server bears many clients: throughput beside one client's, and memory over many requests.

    python benchmarks/serve.py                       # 64 clients, 2,000 requests for the memory
    python benchmarks/serve.py --name mini:single    # another method
    python benchmarks/serve.py --json > figures.json
    python benchmarks/serve.py --quick               # does it run? The figures mean little

Starts `llava-cot serve` on a free port and asks it questions about scenes, each with a picture of its own, so
that no answer is cached. First one client asks one question after another; then as many clients as are given
ask one each, at the same time: throughput is questions answered a second, the median over the repeats. Then
the clients ask on, one question after another each, and the resident memory of the server is read (from
/metrics) after each tenth of the requests. The first quarter fills the caches, which are bounded; growth is
counted from there. A request that is not answered with status 200 counts as failed.
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

from llava_cot.core.prompting import question_text
from llava_cot.models.endpoint.prompts import data_url
from llava_cot.scenes.items import make_item

_TENTHS = 10


@dataclass(frozen=True)
class Sizes:
    """How much is asked."""

    clients: int
    alone: int  # questions of the one client
    repeats: int
    requests: int  # for the memory


@dataclass(frozen=True)
class Result:
    """What was measured; rates are questions a second, memory is in MiB."""

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
    """The address of a server that runs meanwhile."""
    command = [sys.executable, "-m", "llava_cot", "serve", "--model", model, "--port", "0"]
    command += ["--at-once", str(clients), "--max-waiting", str(clients), "--cache-mb", str(cache_mb)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = process.stderr.readline()
        found = re.search(r"http://\S+/v1", told)
        if found is None:
            raise SystemExit(f"the server did not start: {told}")
        try:
            yield found[0]
        finally:
            process.terminate()


def body(name: str, index: int) -> dict[str, Any]:
    """A request about a scene that no other index has."""
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
    """Of the server, in MiB."""
    told = await client.get(client.base_url.copy_with(path="/metrics"))
    found = re.search(r"^process_resident_memory_bytes (\S+)$", told.text, re.MULTILINE)
    assert found, told.text
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
            _tell(f"memory: {tenth} of {_TENTHS} parts of {sizes.requests} requests")
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
    """So many requests from so many clients, each of which asks on until all are asked."""
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


def _tell(text: str) -> None:
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
