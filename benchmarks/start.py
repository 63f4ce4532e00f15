"""How long a first answer takes: a cold `llava-cot ask`, from starting Python to the answer.

    python benchmarks/start.py                     # mini
    python benchmarks/start.py FOLDER org/name     # other models, such as one on the hub that is in the cache

The median of seven runs of each model, in turns: one answer of 8 tokens without stages. In brackets the best.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

RUNS = 7
PICTURE = Path(__file__).parent.parent / "examples" / "scene.png"


def start(model: str) -> float:
    """Seconds of one answer in a new process."""
    command = [sys.executable, "-m", "llava_cot", "ask", str(PICTURE), "How many objects are there?"]
    command += ["--model", model, "--method", "direct", "--max-tokens", "8"]
    begin = perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="*", default=["mini"], metavar="MODEL")
    models = parser.parse_args().models
    times: dict[str, list[float]] = {model: [] for model in models}
    for _ in range(RUNS):
        for model in models:
            times[model].append(start(model))
    for model, seconds in times.items():
        print(f"{model}: {median(seconds):.2f} s ({min(seconds):.2f})")


if __name__ == "__main__":
    main()
