"""The command line's `eval` verb. Everything heavy is imported when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from llava_cot.cli.options import Device, Dtype, ModelName, Stages, new_app, options_from
from llava_cot.models.base import SAMPLING_OPTIONS, Sampling
from llava_cot.search.resources import ResourceOptions

app = new_app()
# Each of the seeds of a run is a number of its own.
_OPTIONS = [name for name in SAMPLING_OPTIONS if name != "seed"]


@app.command()
@options_from("resources", ResourceOptions)
@options_from("sampling", Sampling, _OPTIONS)
def evaluate(
    resources: ResourceOptions,
    sampling: Sampling,
    benchmarks: Annotated[
        list[str],
        typer.Argument(metavar="BENCH", help="Benchmarks by name, or files or folders of your own."),
    ],
    model: Annotated[
        list[str],
        typer.Option(metavar="M", help="As for `ask`, or NAME=M for a name of your own; may be repeated."),
    ],
    out: Annotated[str, typer.Option(metavar="DIR", help="The folder to keep all in, or to go on with.")],
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC",
            help="Such as single, greedy, stage-beam-4, best-of-10@logits; repeatable. By itself: single.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="The first K questions of each benchmark.")
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, metavar="S", help="Answer everything S times, with the seeds 0 to S - 1.")
    ] = 1,
    scorer: Annotated[
        str | None, typer.Option(metavar="M", help="A model to ask where words do not settle a score.")
    ] = None,
    answer: Annotated[
        str,
        typer.Option(help="What is scored: conclusion; last-line or whole where a model has no stages."),
    ] = "conclusion",
    root: Annotated[str | None, typer.Option(metavar="DIR", help="Where the benchmarks' files are.")] = None,
    rule: Annotated[
        str | None, typer.Option(metavar="NAME", help="How questions of your own are scored.")
    ] = None,
    model_name: ModelName = None,
    at_once: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Questions in flight; 64, at servers 256, if not given."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Answer in a Ray cluster: HOST:PORT, auto or local."),
    ] = None,
    stages: Stages = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on standard error.")] = False,
) -> None:
    """Answer a benchmark's questions by models and methods, and score the conclusions."""
    from contextlib import closing, nullcontext
    from dataclasses import asdict

    from llava_cot.core.stages import LLAVA_COT, make_format
    from llava_cot.data.store import check_store_folder
    from llava_cot.evaluation.answers import ANSWER_SOURCES
    from llava_cot.evaluation.benchmarks import open_benchmark
    from llava_cot.evaluation.opening import ASKED, entries
    from llava_cot.evaluation.plan import EvalPlan
    from llava_cot.evaluation.results import open_results
    from llava_cot.evaluation.run import evaluate as run
    from llava_cot.evaluation.summary import summarize
    from llava_cot.models.registry import open_model
    from llava_cot.search.request import parse_spec
    from llava_cot.search.resources import for_requests, read_resources
    from llava_cot.view.progress import ProgressDisplay
    from llava_cot.view.summaries import evaluation_end, evaluation_table, show_evaluation

    specs = tuple(dict.fromkeys(parse_spec(text) for text in method or ["single"]))
    way = next((known for known in ANSWER_SOURCES if known == answer), None)
    if way is None:
        raise ValueError(f"--answer is {answer!r}; choose one of {', '.join(ANSWER_SOURCES)}")
    named = read_resources(resources, device=device, dtype=dtype, in_flight=at_once or ASKED)
    fmt = make_format(stages) if stages else LLAVA_COT
    named = for_requests(named, [spec.request(sampling, fmt, named) for spec in specs])
    if ray is not None and named:
        raise ValueError(
            "--ray has each worker open one model and nothing beside; leave it out, or run the methods "
            "that want more by themselves"
        )
    folder, data = Path(out), Path(root) if root else None
    check_store_folder(folder)
    plan = EvalPlan(
        benchmarks=tuple(open_benchmark(name, data, rule) for name in dict.fromkeys(benchmarks)),
        models=entries(
            model,
            model_name=model_name,
            at_once=at_once,
            device=device,
            dtype=dtype,
            ray=ray,
            known=named.opened,
        ),
        specs=specs,
        seeds=tuple(range(seeds)),
        limit=limit,
        way=way,
        fmt=fmt,
        sampling=sampling,
        resources=named,
    )
    progress = ProgressDisplay("answers", quiet=quiet, resume_with="the same command")
    with (
        closing(open_model(scorer, device=device, dtype=dtype)) if scorer else nullcontext() as judge,
        progress,
    ):
        done = run(
            folder, plan, scorer=judge,
            on_progress=show_evaluation(progress), on_interrupt=progress.interrupting,
        )  # fmt: skip
    asked = {setting for entry in plan.models for setting, _, _ in plan.settings(entry.name)}
    with open_results([folder]) as results:
        lines = summarize(results, [setting for setting in results.settings if setting in asked])
        notes = {line.benchmark: results.note(line.benchmark) for line in lines}
    if as_json:
        print(json.dumps({"folder": out, "results": [asdict(line) for line in lines], "notes": notes}))
    elif lines:
        print(*evaluation_table(lines, notes), sep="\n")
    progress.notes(evaluation_end(folder, done, lines, scorer=scorer is not None))
    if done.failed or done.unscored or done.gave_up:
        raise typer.Exit(1)
