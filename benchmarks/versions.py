"""Two versions of the package side by side: the benchmarks of questions, endpoints and serving.

    git worktree add /tmp/before v0.1.0
    python benchmarks/versions.py /tmp/before            # that checkout against this one
    python benchmarks/versions.py /tmp/before --quick    # a check that it runs; the figures mean little

Each round runs `ask.py`, `endpoint.py` and `serve.py` of both checkouts, with the same Python, one after the
other; the next round in the other order, so that a slow minute of the machine does not fall on one of them.
Each benchmark runs with few questions or requests; the rounds are what makes up for it. The table has the
median of the rounds, and the ratio after / before for each round: for seconds and milliseconds below 1 is
faster, for questions a second above 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parents[1]
BENCHMARKS = ["ask.py", "endpoint.py", "serve.py"]
ARGUMENTS = {
    "ask.py": ["--n", "1", "4", "--questions", "4", "--repeats", "1"],
    "serve.py": ["--requests", "200"],
}


# The overhead part of `endpoint.py` without its comparison with httpx, which takes minutes, as does its other
# part, faults. Garbage collection adds 0.1 ms a request to those passes that it happens to interrupt: off.
OVERHEAD = """
import asyncio, gc, json, os, tempfile
import endpoint
async def not_compared(*arguments):
    return 0.0
endpoint._bare = not_compared
gc.disable()
with tempfile.TemporaryDirectory() as os.environ["XDG_CACHE_HOME"]:
    rows = [
        vars(asyncio.run(endpoint.overhead(300, 9, picture, wait)))
        for picture in (False, True)
        for wait in (0.0, 0.25)
    ]
print(json.dumps({"overhead": rows}))
"""


def run(checkout: Path, benchmark: str, quick: bool) -> Any:
    """The JSON of one benchmark of a checkout, run with that checkout's package."""
    environment = os.environ | {"PYTHONPATH": f"{checkout / 'src'}{os.pathsep}{checkout / 'benchmarks'}"}
    if benchmark == "endpoint.py":
        command = [sys.executable, "-c", OVERHEAD]
    else:
        arguments = ["--quick"] if quick else ARGUMENTS[benchmark]
        command = [sys.executable, str(checkout / "benchmarks" / benchmark), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=checkout, check=False)
    if done.returncode:
        sys.exit(f"{benchmark} of {checkout} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def figures(benchmark: str, found: Any) -> Iterator[tuple[str, float]]:
    """The headline figures of a benchmark, by what they are."""
    if benchmark == "ask.py":
        for row in found["rows"]:
            if row["who"] == "ours":
                judge = f", {row['judge']}" if row["judge"] else ""
                name = f"{row['method']}{judge}, N = {row['n']}, {row['at_once']} at once"
                yield f"{name}: seconds a question", row["seconds"]
    elif benchmark == "endpoint.py":
        for row in found["overhead"]:
            what = f"{'image' if row['picture'] else 'text'}, reply after {row['wait'] * 1000:g} ms"
            yield f"endpoint, {what}: milliseconds of overhead a request", row["ours"]
    else:
        yield "server, one client: questions a second", found["alone"]
        yield f"server, {found['clients']} clients: questions a second", found["together"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="the checkout of the earlier version")
    parser.add_argument("after", type=Path, nargs="?", default=HERE, help="the other one; this by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    checkouts = {"before": options.before.resolve(), "after": options.after.resolve()}
    measured: dict[str, dict[str, list[float]]] = {}
    for number in range(1 if options.quick else options.rounds):
        for benchmark in options.only:
            for side in ("before", "after") if number % 2 == 0 else ("after", "before"):
                print(f"round {number + 1}: {benchmark}, {side}", file=sys.stderr)
                for name, value in figures(benchmark, run(checkouts[side], benchmark, options.quick)):
                    measured.setdefault(name, {"before": [], "after": []})[side].append(value)
    print("| figure | before | after | after / before, by round |\n| --- | ---: | ---: | --- |")
    for name, sides in measured.items():
        ratios = ", ".join(f"{b / a:.2f}" for a, b in zip(sides["before"], sides["after"], strict=True))
        print(f"| {name} | {median(sides['before']):.4g} | {median(sides['after']):.4g} | {ratios} |")


if __name__ == "__main__":
    main()
