"""The command line's `data duels` verb. Everything heavy is imported when it runs."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Annotated

import typer


def duels(
    data: Annotated[str, typer.Argument(metavar="IN", help="Records with answers: a folder or a file.")],
    model: Annotated[str, typer.Option(help="Whose samples are compared: whatever `ask` takes.")],
    out: Annotated[str, typer.Option(help="The folder to write to.")],
    n: Annotated[int, typer.Option("-n", min=2, help="Candidates of a stage.")] = 4,
    rollouts: Annotated[int, typer.Option(min=1, help="Answers that try each candidate.")] = 4,
    temperature: Annotated[float, typer.Option(min=0.01, help="Of all samples.")] = 0.8,
    max_tokens: Annotated[int, typer.Option(min=1, help="The most new tokens of one sample.")] = 2048,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many records alone.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same duels.")] = 0,
) -> None:
    """Make training data for the self-judge from a model's own samples."""
    from itertools import islice
    from pathlib import Path

    try:
        from llava_cot.train.duels import write_duels
        from llava_cot.train.judging import Settings
        from llava_cot.train.rows import data_file, read_records
    except ModuleNotFoundError as error:
        raise ValueError(
            f"duels need {error.name}, which is not here; pip install 'llava-cot[train]'"
        ) from None
    from llava_cot import open_model
    from llava_cot.models.base import Sampling

    records = list(islice(read_records(data_file(data)), limit))
    settings = Settings(n, rollouts, sampling=Sampling(temperature, max_tokens=max_tokens))

    def show(done: int) -> None:
        if done % 20 == 0 or done == len(records):
            print(f"{done:,} of {len(records):,} records", file=sys.stderr, flush=True)

    with closing(open_model(model)) as opened:
        count = write_duels(opened, records, Path(out), settings, seed, show)
    print(f"wrote {count:,} examples to {out}", file=sys.stderr)
