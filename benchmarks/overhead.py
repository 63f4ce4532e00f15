"""What the local engine adds to the network: milliseconds of a decoding step outside `model.forward`.

    python benchmarks/overhead.py [MODEL ...]

For 1, 8 and 64 rows, sampled from one prompt without a picture: the median over the steps in which all rows
ran and nothing was admitted. Models are mini by default, and folders.
"""

from __future__ import annotations

import argparse
import asyncio
from statistics import median
from time import perf_counter
from typing import Any

from llava_cot import Sampling, open_model
from llava_cot.models.base import Prompt

ROWS = (1, 8, 64)
TOKENS = 48
QUESTION = "How many objects are there, and what is the color of the small metal sphere?"


async def time_steps(model: Any, rows: int) -> list[tuple[float, float]]:
    """Seconds of each step with so many rows, and of these outside the network."""
    engine, network = model._engine, model._engine._network._model
    step, forward = engine.step, network.forward
    inside, times = [0.0], []

    def timed_forward(*args: Any, **kwargs: Any) -> Any:
        begin = perf_counter()
        made = forward(*args, **kwargs)
        inside[0] += perf_counter() - begin
        return made

    def timed_step() -> None:
        prefills, decoded = engine.stats.prefills, engine.stats.rows
        inside[0], begin = 0.0, perf_counter()
        step()
        seconds = perf_counter() - begin
        if engine.stats.prefills == prefills and engine.stats.rows - decoded == rows:
            times.append((seconds, seconds - inside[0]))

    engine.step, network.forward = timed_step, timed_forward
    try:
        for seed in range(6):
            sampling = Sampling(temperature=1.5, top_p=1.0, max_tokens=TOKENS, seed=seed)
            await model.sample(Prompt.of(QUESTION), rows, sampling)
    finally:
        engine.step, network.forward = step, forward
    return times


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="*", default=["mini"], metavar="MODEL")
    print("| model | rows | steps | ms a step | ms outside the network |\n| --- | --- | --- | --- | --- |")
    for name in parser.parse_args().models:
        model = open_model(name, device="cpu")
        await time_steps(model, 8)  # to warm up
        for rows in ROWS:
            times = await time_steps(model, rows)
            whole, outside = (1000 * median(column) for column in zip(*times, strict=True))
            print(f"| {model.name} | {rows} | {len(times)} | {whole:.2f} | {outside:.2f} |", flush=True)
        model.close()


if __name__ == "__main__":
    asyncio.run(main())
