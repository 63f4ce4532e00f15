"""The command line's `eval` verb. Everything heavy is imported when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from llava_cot.cli.options import (
    Adapters,
    AsJson,
    AtOnce,
    ChatTemplateKwargs,
    Format,
    Merge,
    ModelName,
    Quiet,
    Ray,
    TrustRemoteCode,
    complete_benchmarks,
    complete_specs,
    new_app,
    options_from,
)
from llava_cot.models.base import SAMPLING_OPTIONS, Sampling
from llava_cot.models.hardware import HardwareOptions
from llava_cot.search.request import StagingOptions
from llava_cot.search.resources import ResourceOptions

app = new_app()
# Each of the seeds of a run is a number of its own.
_OPTIONS = [name for name in SAMPLING_OPTIONS if name != "seed"]


@app.command()
@options_from("staging", StagingOptions)
@options_from("resources", ResourceOptions)
@options_from("sampling", Sampling, _OPTIONS)
@options_from("hardware", HardwareOptions)
def evaluate(
    *,
    benchmarks: Annotated[
        list[str],
        typer.Argument(
            metavar="BENCH",
            help="Benchmarks by name, or files or folders of your own.",
            autocompletion=complete_benchmarks,
        ),
    ],
    model: Annotated[
        list[str],
        typer.Option(metavar="M", help="As for `ask`, or NAME=M to give it a name; may be repeated."),
    ],
    out: Annotated[
        str, typer.Option(metavar="DIR", help="The run folder; an unfinished run in it is resumed.")
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC",
            help="Such as single (the default), greedy, stage-beam-4, best-of-10@logits; may be repeated.",
            autocompletion=complete_specs,
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="The first K questions of each benchmark.")
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, metavar="S", help="Answer everything S times, with the seeds 0 to S - 1.")
    ] = 1,
    scorer: Annotated[
        str | None,
        typer.Option(metavar="M", help="A model that scores answers that text comparison does not decide."),
    ] = None,
    answer: Annotated[
        str, typer.Option(help="What is scored: conclusion; last-line or whole for a model without stages.")
    ] = "conclusion",
    root: Annotated[
        str | None, typer.Option(metavar="DIR", help="The folder of the benchmarks' files.")
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The scoring rule for questions of your own; or an old one of VLMEvalKit: choice-0.0.20.",
        ),
    ] = None,
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Download no file of a benchmark, but say where it is to be had."),
    ] = False,
    model_name: ModelName = None,
    adapter: Adapters = None,
    merge: Merge = True,
    trust_remote_code: TrustRemoteCode = False,
    chat_template_kwargs: ChatTemplateKwargs = None,
    at_once: AtOnce = None,
    ray: Ray = None,
    sampling: Sampling,
    resources: ResourceOptions,
    format: Format = None,
    staging: StagingOptions,
    hardware: HardwareOptions,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Answer the questions of benchmarks with models and methods, and score the conclusions."""
    from contextlib import closing, nullcontext
    from dataclasses import asdict

    from llava_cot.core.format_file import read_format
    from llava_cot.data.store import check_store_folder
    from llava_cot.evaluation.benchmarks import open_benchmark
    from llava_cot.evaluation.plan import SERVER_AT_ONCE, EvalPlan, plan_models
    from llava_cot.evaluation.report.arms import summarize
    from llava_cot.evaluation.results import RunResults
    from llava_cot.evaluation.run import evaluate as run
    from llava_cot.evaluation.scorer import ANSWER_SOURCES
    from llava_cot.evaluation.statistics import check_scipy
    from llava_cot.models.registry import open_model
    from llava_cot.search.request import parse_spec
    from llava_cot.search.resources import for_requests, read_resources
    from llava_cot.view.progress import ProgressDisplay
    from llava_cot.view.summaries import evaluation_end, evaluation_table, show_evaluation

    check_scipy()
    specs = tuple(dict.fromkeys(parse_spec(text) for text in method or ["single"]))
    source = next((known for known in ANSWER_SOURCES if known == answer), None)
    if source is None:
        raise ValueError(f"--answer is {answer!r}; choose one of {', '.join(ANSWER_SOURCES)}")
    named = read_resources(resources, **hardware.given(), in_flight=at_once or SERVER_AT_ONCE)
    fmt = read_format(format)
    requests = []
    for spec in specs:
        try:
            requests.append(spec.request(sampling, fmt, named, staging))
        except ValueError as error:
            raise ValueError(f"{spec.name}: {error}") from None
    named = for_requests(named, requests)
    if ray is not None and named:
        raise ValueError(
            "--ray has each worker open one model only; leave it out, or run the methods that need more than "
            "the model by themselves"
        )
    folder, data = Path(out), Path(root) if root else None
    check_store_folder(folder)
    plan = EvalPlan(
        benchmarks=tuple(
            open_benchmark(name, data, rule, download=not offline) for name in dict.fromkeys(benchmarks)
        ),
        models=plan_models(
            model, model_name=model_name, at_once=at_once, hardware=hardware.given(), ray=ray,
            known=named.opened, adapters=adapter or (), merge=merge, trust_remote_code=trust_remote_code,
            chat_template_kwargs=chat_template_kwargs,
        ),
        specs=specs,
        seeds=tuple(range(seeds)),
        limit=limit,
        answer_source=source,
        fmt=fmt,
        staging=staging,
        sampling=sampling,
        resources=named,
    )  # fmt: skip
    progress = ProgressDisplay("answers", quiet=quiet, resume_with="the same command")
    scoring = closing(open_model(scorer, **hardware.given())) if scorer else nullcontext()
    with scoring as opened, progress:
        outcome = run(
            folder, plan, scorer=opened,
            on_progress=show_evaluation(progress), on_interrupt=progress.interrupting,
        )  # fmt: skip
    planned = {key for one in plan.models for key, _, _ in plan.runs(one.name)}
    with RunResults([folder]) as results:
        rows = summarize(results, [key for key in results.runs if key in planned])
        notes = {row.benchmark: results.note(row.benchmark) for row in rows}
    if as_json:
        print(json.dumps({"folder": out, "results": [asdict(row) for row in rows], "notes": notes}))
    elif rows:
        print(*evaluation_table(rows, notes), sep="\n")
    progress.notes(evaluation_end(folder, outcome, rows, scorer=scorer is not None))
    if outcome.failed or outcome.unscored or outcome.abandoned or outcome.scorer_unavailable:
        raise typer.Exit(1)
