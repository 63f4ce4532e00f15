"""How long the built-in model takes beside processes that keep the machine busy.

    python benchmarks/busy.py
    python benchmarks/busy.py --spin 300 1000 3000    # other numbers of turns, to choose one
    python benchmarks/busy.py --quick                 # does it run? The figures mean little

Sixty questions at once, eight samples each, by as many threads as torch takes, beside 0, 1 and 2 processes
that do nothing but count. Threads that have nothing to do wait for each other by turning in a loop, which
takes time from the busy processes, and these from the thread that is waited for: `GOMP_SPINCOUNT` says for
how many turns, before they sleep. Medians over the rounds, in seconds; in brackets the ratio to the
package's own setting alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

QUESTIONS, SAMPLES = 60, 8
BUSY = (0, 1, 2)
WORK = """
import asyncio, sys, time
from llava_cot import open_model
from llava_cot.core.question import question_text
from llava_cot.models.base import Prompt, Sampling
from llava_cot.scenes.items import make_item

questions, samples = map(int, sys.argv[1:])
model = open_model("mini", device="cpu", dtype="float32")

async def answer(first, count):
    asked = [make_item("validation", 0, first + i).ask() for i in range(count)]
    prompts = [Prompt.of(question_text(one), one.images) for one in asked]
    sampling = Sampling(temperature=0.6, top_p=0.9, max_tokens=256, seed=0)
    return await asyncio.gather(*(model.sample(prompt, samples, sampling) for prompt in prompts))

asyncio.run(answer(1000, 2))
began = time.perf_counter()
asyncio.run(answer(0, questions))
print(time.perf_counter() - began)
model.close()
"""
TORCH_ALONE = "300000"  # turns, where nothing is set


def settings(spin: list[int]) -> dict[str, dict[str, str]]:
    """Environment variables by what they are."""
    return {
        "the package": {},
        **{f"{turns} turns": {"GOMP_SPINCOUNT": str(turns)} for turns in spin},
        "torch by itself": {"GOMP_SPINCOUNT": TORCH_ALONE},
        "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
        "one thread": {"OMP_NUM_THREADS": "1"},
    }


@contextmanager
def busy(count: int) -> Iterator[None]:
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def seconds(variables: dict[str, str], others: int, quick: bool) -> float:
    """How long one run takes, without loading."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    counts = ("4", "2") if quick else (str(QUESTIONS), str(SAMPLES))
    with busy(others):
        done = subprocess.run(
            [sys.executable, "-c", WORK, *counts],
            stdout=subprocess.PIPE,
            text=True,
            env=kept | variables,
            check=True,
        )
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spin", type=int, nargs="+", default=[])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    measured: dict[str, dict[int, list[float]]] = {}
    for _ in range(1 if options.quick else options.rounds):
        for name, variables in settings(options.spin).items():
            for others in BUSY:
                took = seconds(variables, others, options.quick)
                print(f"{name}, beside {others}: {took:.1f} s", file=sys.stderr)
                measured.setdefault(name, {}).setdefault(others, []).append(took)
    medians = {name: {others: median(took) for others, took in row.items()} for name, row in measured.items()}
    if options.json:
        print(json.dumps(medians))
        return
    base = medians["the package"][0]
    print("| setting | alone | beside 1 | beside 2 |\n| --- | ---: | ---: | ---: |")
    for name, row in medians.items():
        print(
            f"| {name} |", " | ".join(f"{row[others]:.1f} ({row[others] / base:.2f})" for others in BUSY), "|"
        )


if __name__ == "__main__":
    main()
