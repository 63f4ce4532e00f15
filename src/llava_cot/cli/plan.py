"""The command line's `plan` verb. Everything heavy is imported when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from llava_cot.cli.options import (
    Adapters,
    AsJson,
    ChatTemplateKwargs,
    Format,
    ModelName,
    ModelSpec,
    Quiet,
    complete_benchmarks,
    complete_judges,
    new_app,
    options_from,
)
from llava_cot.models.base import SAMPLING_OPTIONS, Sampling
from llava_cot.models.hardware import HardwareOptions
from llava_cot.search.request import StagingOptions
from llava_cot.search.resources import ResourceOptions

app = new_app()
_RESOURCES = [
    name for name in ResourceOptions.model_fields if name not in ("reasoner", "examples", "calibration")
]
_AT_ONCE = 16  # questions, each with some dozen samples in flight


@app.command()
@options_from("staging", StagingOptions)
@options_from("resources", ResourceOptions, _RESOURCES)
@options_from("sampling", Sampling, SAMPLING_OPTIONS)
@options_from("hardware", HardwareOptions)
def plan(
    *,
    bench: Annotated[
        str,
        typer.Argument(
            metavar="BENCH",
            help="A benchmark by name, or a file or folder of questions of your own.",
            autocompletion=complete_benchmarks,
        ),
    ],
    model: ModelSpec,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            metavar="J",
            help="A judge, as for `ask`; may be repeated. By default self, and for a local model likelihood.",
            autocompletion=complete_judges,
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=2, metavar="K", help="The first K questions.")] = 200,
    price: Annotated[
        str | None,
        typer.Option(
            metavar="IN,OUT",
            help="US dollars per million tokens read and written; by default what is known of the server.",
        ),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(min=2, metavar="N", help="Whole answers, and candidates of each stage: the largest N."),
    ] = 8,
    branches: Annotated[
        int, typer.Option(min=1, metavar="B", help="Candidates of a stage that are followed by candidates.")
    ] = 2,
    completions: Annotated[
        int, typer.Option(min=2, metavar="C", help="Completions that tell a candidate's value.")
    ] = 2,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="The folder of the samples, for more judges or questions, and of plan.json and plan.svg.",
        ),
    ] = None,
    model_name: ModelName = None,
    adapter: Adapters = None,
    chat_template_kwargs: ChatTemplateKwargs = None,
    at_once: Annotated[int, typer.Option(min=1, metavar="N", help="Questions in flight.")] = _AT_ONCE,
    sampling: Sampling,
    resources: ResourceOptions,
    format: Format = None,
    staging: StagingOptions,
    hardware: HardwareOptions,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say beforehand which method, judge and N would pay, from one pool of samples."""
    import asyncio
    from contextlib import ExitStack
    from dataclasses import asdict
    from tempfile import TemporaryDirectory

    from llava_cot.core.format_file import read_format
    from llava_cot.data.store import check_store_folder
    from llava_cot.evaluation.benchmarks import open_benchmark
    from llava_cot.evaluation.forecast.advice import advise, confirming_command
    from llava_cot.evaluation.forecast.candidate_tree import PoolSizes
    from llava_cot.evaluation.forecast.forecast import make_forecast
    from llava_cot.evaluation.forecast.forecast_plan import ForecastFolder, ForecastPlan, is_complete
    from llava_cot.evaluation.forecast.forecast_run import sample_and_judge
    from llava_cot.evaluation.forecast.pool_results import read_results
    from llava_cot.evaluation.statistics import check_scipy
    from llava_cot.models.registry import parse_model
    from llava_cot.search.request import parse_spec
    from llava_cot.search.resources import absolute, for_requests, read_resources
    from llava_cot.view.forecast_page import forecast_plot, method_table, stage_table
    from llava_cot.view.progress import ProgressDisplay

    check_scipy()
    paid = None if price is None else _read_price(price)
    fmt = read_format(format)
    judges = judge or ["self", *([] if parse_model(model).servers else ["likelihood"])]
    spec = read_resources(resources, **hardware.given())
    requests = {
        name: parse_spec(f"best-of-2@{name}").request(sampling, fmt, spec, staging)
        for name in dict.fromkeys(judges)
    }
    spec = for_requests(spec, list(requests.values()))
    described = {name: json.dumps(spec.describe("best-of-n", name)) for name in requests}
    more = [
        model_name,
        *map(absolute, adapter or ()),
        chat_template_kwargs and json.dumps(chat_template_kwargs),
    ]
    named = absolute(model) + "".join(f" with {one}" for one in more if one)
    wanted = ForecastPlan(
        open_benchmark(bench, download=True), named, requests, described, limit,
        PoolSizes(samples, branches, completions),
    )  # fmt: skip
    if out is not None:
        check_store_folder(Path(out))
    with ExitStack() as stack:
        path = Path(out or stack.enter_context(TemporaryDirectory()))
        folder = stack.enter_context(ForecastFolder(path))
        folder.match_settings(wanted.settings())
        progress = stack.enter_context(
            ProgressDisplay("questions", limit, quiet=quiet, resume_with="the same command" if out else "")
        )
        error = None
        if not is_complete(folder, wanted):
            opening = spec.open_with(
                model, model_name, adapter or (), chat_template_kwargs=chat_template_kwargs or None
            )
            show = progress.update, progress.interrupting
            with opening as (opened, ready):
                folder.put("model", "price", [opened.price(1_000_000, 0), opened.price(0, 1_000_000)])
                error = asyncio.run(sample_and_judge(folder, wanted, opened, ready, at_once, *show))
        results = read_results(folder, wanted, error)
        found = make_forecast(wanted, results, paid or _known_price(folder.get("model", "price")))
    advice = advise(found)
    given = _given(sampling, Sampling()) | _given(staging, StagingOptions())
    given |= {"format": format, "model_name": model_name} | _used_resources(advice.spec, resources)
    given["chat_template_kwargs"] = chat_template_kwargs and json.dumps(chat_template_kwargs)
    pairs = [
        (f"--{name.replace('_', '-')}", str(value)) for name, value in given.items() if value is not None
    ]
    pairs += [("--adapter", one) for one in adapter or ()]
    command = confirming_command(bench, model, advice.spec, [word for pair in pairs for word in pair])
    numbers = {**asdict(found), "recommended": advice.spec, "advice": advice.sentence, "confirm": command}
    if out is not None:
        from llava_cot.core.files import write_whole
        from llava_cot.view.report_charts import draw_file

        write_whole(path / "plan.json", json.dumps(numbers, indent=1) + "\n")
        write_whole(path / "plan.svg", draw_file(forecast_plot(found)))
    if as_json:
        print(json.dumps(numbers))
    else:
        last = ["", advice.sentence, f"To confirm: {command}"]
        print(*method_table(found), "", *stage_table(found), *last, sep="\n")
    notes = []
    if results.missing:
        notes.append(f"{results.missing:,} questions failed and are left out; the last: {results.last_error}")
    if results.unsettled:
        notes.append(f"{results.unsettled:,} answers count as wrong: comparing text does not decide them")
    if out is not None:
        notes.append(f"the samples, plan.json and plan.svg are in {out}")
    progress.notes(notes)
    if results.missing:
        raise typer.Exit(1)


def _read_price(text: str) -> Any:
    from llava_cot.models.endpoint.config import Price

    try:
        read, written = map(float, text.split(","))
        return Price(input=read, output=written)
    except ValueError:
        raise ValueError(
            f"--price is {text!r}; give the dollars per million tokens read and written, as in 0.15,0.60"
        ) from None


def _known_price(rates: list[float | None] | None) -> Any:
    from llava_cot.models.endpoint.config import Price

    if rates is None or rates[0] is None or rates[1] is None:
        return None
    return Price(input=rates[0], output=rates[1])


def _given(settings: Any, default: Any) -> dict[str, Any]:
    """The options that differ from their defaults, by name, except for the seed."""
    names = [name for name in vars(default) if name in SAMPLING_OPTIONS or not isinstance(default, Sampling)]
    return {
        name: getattr(settings, name)
        for name in names
        if name != "seed" and getattr(settings, name) != getattr(default, name)
    }


def _used_resources(spec: str, resources: ResourceOptions) -> dict[str, Any]:
    """The options of resources that a method uses."""
    from llava_cot.search.request import parse_spec
    from llava_cot.search.resources import usable

    read = parse_spec(spec)
    used = {name for _, name in usable(read.method, read.judge)}
    return {name: value for name, value in _given(resources, ResourceOptions()).items() if name in used}
