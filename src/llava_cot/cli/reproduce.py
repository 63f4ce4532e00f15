"""The command line's `reproduce` verb. Everything heavy is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llava_cot.cli.options import new_app

app = new_app()


@app.command()
def reproduce(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder to keep all in, or to go on with.")
    ] = Path("reproduction"),
    model: Annotated[str, typer.Option(metavar="M", help="A model of your own, as for `ask`.")] = "mini",
    benchmark: Annotated[str, typer.Option(metavar="BENCH", help="As for `eval`.")] = "scenes",
    limit: Annotated[int, typer.Option(metavar="K", min=1, help="The first K questions.")] = 1000,
    seeds: Annotated[int, typer.Option(metavar="S", min=1, help="Answer everything S times.")] = 2,
    neighbours: Annotated[
        bool,
        typer.Option("--neighbours", help="Also the other ways of reasoning and selecting."),
    ] = False,
    ablations: Annotated[
        Path,
        typer.Option(metavar="DIR", help="The folder of mini-direct and mini-untagged, if it is there."),
    ] = Path("research/mini/weights"),
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="The most new tokens of one sample; mini 200, others 2048."),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, metavar="P", help="So many at once; mini as many as processors, others 1."),
    ] = None,
) -> None:
    """Put the paper's claims to the test on mini, or three of the four on a model of your own."""
    import os
    import sys

    from llava_cot.evaluation.benchmarks import open_benchmark
    from llava_cot.evaluation.reproduce.running import Common, run_tasks
    from llava_cot.evaluation.reproduce.tasks import tasks
    from llava_cot.evaluation.reproduce.write_reproduction import write
    from llava_cot.view.progress import ProgressDisplay

    mini = model == "mini"
    open_benchmark(benchmark)
    common = Common(out, benchmark, limit, max_tokens or (200 if mini else 2048))
    pieces = tasks(model, range(seeds), neighbours, ablations)
    if out.is_file():
        raise ValueError(f"{out} is a file; name a folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    at_once = processes or (min(len(pieces), os.cpu_count() or 1) if mini else 1)
    with ProgressDisplay(resume_with="the same command") as progress:
        ended = run_tasks(common, pieces, at_once, lambda done, total: progress("answers", done, total))
        page, claims = write(out, pieces, model, progress)
    for claim in claims:
        print(f"{claim.title}")
        for sentence in claim.parts:
            if isinstance(sentence, str):
                print(f"  {sentence}")
    if failed := sum(end.failed for end in ended):
        why = next((end.why for end in ended if end.why), "")
        print(f"{failed:,} answers are missing and count as wrong: {why}", file=sys.stderr)
    print(f"wrote {page}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)
