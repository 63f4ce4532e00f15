"""The command line's `judge` verbs. Everything heavy is imported when they run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from llava_cot.cli.options import (
    AsJson,
    Format,
    ModelName,
    complete_judges,
    complete_scoring_judges,
    new_app,
    options_from,
)
from llava_cot.models.base import SAMPLING_OPTIONS, Sampling
from llava_cot.models.hardware import HardwareOptions
from llava_cot.search.resources import ResourceOptions

app = new_app("Measure judges.")

# No training draws from these, and no benchmark is scored on them.
_UNTESTED = "scenes:validation"
_AT_ONCE = 64


@app.command()
@options_from(
    "resources",
    ResourceOptions,
    ["judge_model", "reference", "likelihood_weight", "step_scores", "judge_prompts"],
)
@options_from("sampling", Sampling, SAMPLING_OPTIONS)
@options_from("hardware", HardwareOptions)
def calibrate(
    *,
    judge: Annotated[
        str,
        typer.Option(
            metavar="J",
            help="A judge that gives scores, as for `ask`.",
            autocompletion=complete_scoring_judges,
        ),
    ],
    out: Annotated[str, typer.Option(metavar="FILE", help="The file to write, for --calibration.")],
    model: Annotated[str, typer.Option(help="Whose samples are scored, as for `ask`.")] = "mini",
    model_name: ModelName = None,
    resources: ResourceOptions,
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="FROM",
            help="A benchmark, or a file or folder of questions of your own; or traces (.json) that hold "
            "scores, repeatable. By default scenes:validation.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=2, metavar="K", help="The most questions.")] = 200,
    stage: Annotated[str, typer.Option(help="Which stage is scored.")] = "reasoning",
    sampling: Sampling,
    format: Format = None,
    hardware: HardwareOptions,
) -> None:
    """Measure how a judge scores, so that methods know which of its scores are good enough."""
    import asyncio
    from itertools import islice

    from llava_cot.core.files import output_file
    from llava_cot.core.format_file import read_format
    from llava_cot.data.preferences.from_traces import read_traces
    from llava_cot.evaluation.benchmarks import open_benchmark
    from llava_cot.evaluation.calibrate import make_calibration, sample_scores, scores_in_traces
    from llava_cot.search.ask import make_judge
    from llava_cot.search.calibration import prompts_of
    from llava_cot.search.judges import JUDGES
    from llava_cot.search.request import make_request
    from llava_cot.search.resources import for_requests, read_resources
    from llava_cot.view.progress import ProgressDisplay

    target = output_file(out)
    fmt = read_format(format)
    fmt.stage(stage)
    if judge not in JUDGES or not JUDGES[judge].scores:
        those = ", ".join(name for name, kind in JUDGES.items() if kind.scores)
        raise ValueError(f"there is no judge {judge!r} that gives scores; choose one of {those}")
    given = sources or [_UNTESTED]
    traces = [Path(source) for source in given if source.endswith(".json")]
    if traces:
        if resources.judge_prompts is not None:
            raise ValueError("--judge-prompts is for new samples, and traces do not say theirs; drop it")
        if len(traces) < len(given):
            raise ValueError("--from names traces and questions; give either, since they are counted apart")
        sample, models = scores_in_traces(islice(read_traces(traces), limit), judge, stage)
        found = make_calibration(sample, judge, stage, model=models)
    else:
        if len(given) > 1:
            raise ValueError(f"--from names {len(given)} sets of questions; give one, or traces")
        benchmark = open_benchmark(given[0], download=True)
        spec = read_resources(resources, **hardware.given())
        request = make_request("best-of-n", n=1, judge=judge, sampling=sampling, fmt=fmt, resources=spec)
        spec = for_requests(spec, [request])
        with spec.open_with(model, model_name) as (opened, ready), ProgressDisplay() as progress:
            made = make_judge(judge, opened, request, ready)
            sample = asyncio.run(
                sample_scores(
                    request, opened, made, islice(benchmark.items(), limit), stage=stage, at_once=_AT_ONCE,
                    on_progress=lambda done: progress("samples", done, limit),
                )
            )  # fmt: skip
            found = make_calibration(
                sample, judge, stage, model=opened.name, judge_model=made.model_name, seed=sampling.seed,
                prompts=prompts_of(made),
            )  # fmt: skip
    found.save(target)
    above = sum(score > found.cut_off for score in sample.scores)
    print(
        f"cut-off {found.cut_off:.4g}: mean {found.mean:.4g}, deviation {found.deviation:.4g} of "
        f"{found.count:,} scores, {above:,} of them above it"
    )
    if sample.without:
        print(f"{sample.without:,} had no {stage} to score and do not count", file=sys.stderr)
    if not above:
        print("no score is above the cut-off: a search with it would never be content", file=sys.stderr)
    print(f"wrote {out}", file=sys.stderr)


@app.command()
@options_from(
    "resources", ResourceOptions, ["judge_model", "reference", "likelihood_weight", "judge_prompts"]
)
@options_from("sampling", Sampling, SAMPLING_OPTIONS)
@options_from("hardware", HardwareOptions)
def measure(
    rollouts: Annotated[
        Path, typer.Argument(metavar="ROLLOUTS", help="The folder, or file, of `llava-cot data rollouts`.")
    ],
    *,
    judge: Annotated[
        str, typer.Option(metavar="J", help="The judge, as for `ask`.", autocompletion=complete_judges)
    ],
    model: Annotated[str, typer.Option(help="Whose answers the rollouts are, as for `ask`.")] = "mini",
    model_name: ModelName = None,
    resources: ResourceOptions,
    limit: Annotated[int, typer.Option(min=1, metavar="K", help="The most questions.")] = 200,
    sampling: Sampling,
    format: Format = None,
    as_json: AsJson = False,
    hardware: HardwareOptions,
) -> None:
    """Measure how often a judge orders right and wrong answers to one question rightly, by stage."""
    import asyncio
    import json
    from dataclasses import asdict
    from itertools import islice

    from llava_cot.core.format_file import read_format
    from llava_cot.data.rollouts.rollout_file import read_rollouts, rollout_file
    from llava_cot.evaluation.judge_accuracy import accuracy
    from llava_cot.evaluation.judge_rollouts import judge_rollouts
    from llava_cot.evaluation.statistics import check_scipy
    from llava_cot.search.ask import make_judge
    from llava_cot.search.request import make_request
    from llava_cot.search.resources import for_requests, read_resources
    from llava_cot.view.progress import ProgressDisplay
    from llava_cot.view.summaries import judge_tables

    check_scipy()
    file, fmt = rollout_file(rollouts), read_format(format)
    questions = list(islice((one for one in read_rollouts(file) if one.samples), limit))
    if not questions:
        raise ValueError(f"{file} has no question with samples; `llava-cot data rollouts` samples them")
    spec = read_resources(resources, **hardware.given())
    request = make_request("best-of-n", judge=judge, sampling=sampling, fmt=fmt, resources=spec)
    spec = for_requests(spec, [request])
    with spec.open_with(model, model_name) as (opened, ready), ProgressDisplay() as progress:
        judged = asyncio.run(
            judge_rollouts(
                request, opened, make_judge(judge, opened, request, ready), questions, file.parent,
                resources=ready, at_once=_AT_ONCE,
                on_progress=lambda done: progress("questions", done, len(questions)),
            )
        )  # fmt: skip
    found = accuracy(judged, fmt.names)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    print(*judge_tables(found), sep="\n")
    print(f"{found.mixed:,} of {found.questions:,} questions have right and wrong answers", file=sys.stderr)
    if not found.mixed:
        print("no question has both: nothing can be ordered; use harder questions", file=sys.stderr)
