"""The command `data rollouts`. Everything heavy is imported when it runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llava_cot.cli.options import AtOnce, ModelName, Quiet, Ray, options_from
from llava_cot.models.base import SAMPLING_OPTIONS, Sampling
from llava_cot.models.hardware import HardwareOptions

if TYPE_CHECKING:
    from llava_cot.data.rollouts.rollout_set import RolloutModel


@options_from("sampling", Sampling, SAMPLING_OPTIONS)
@options_from("hardware", HardwareOptions)
def rollouts(
    *,
    source: Annotated[str, typer.Argument(metavar="IN", help="A folder or file of questions with answers.")],
    out: Annotated[
        str, typer.Option(metavar="DIR", help="The folder to write to; an unfinished run in it is resumed.")
    ],
    model: Annotated[
        str | None, typer.Option(metavar="M", help="The model that answers, as for `ask`.")
    ] = None,
    model_name: ModelName = None,
    samples: Annotated[int, typer.Option(min=1, metavar="N", help="Answers to sample to a question.")] = 8,
    completions: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="K",
            help="Complete each answer from the end of each stage so many times; the share of right ones is "
            "the value of the stage.",
        ),
    ] = 0,
    completer: Annotated[
        str | None,
        typer.Option(metavar="M", help="A second model that completes the stages too, for consensus."),
    ] = None,
    agree_within: Annotated[
        float,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="Leave out a value in which the two models differ by more."
        ),
    ] = 0.25,
    balanced: Annotated[
        bool,
        typer.Option(
            "--balanced",
            help="Write as many right as wrong answers to each question, and no question without both.",
        ),
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="Use only the first K questions.")
    ] = None,
    at_once: AtOnce = None,
    ray: Ray = None,
    imported: Annotated[
        bool,
        typer.Option(
            "--import",
            help="IN has answers with labeled steps, as PRM800K or VisualPRM400K has them: convert it, "
            "without a model.",
        ),
    ] = False,
    images: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="The folder of the pictures that an imported file names."),
    ] = None,
    sampling: Sampling,
    hardware: HardwareOptions,
    quiet: Quiet = False,
) -> None:
    """Sample answers to questions with known answers, and label them, and their stages, by the outcome."""
    given = {"--model": model, "--completer": completer, "--ray": ray}
    if imported:
        if needless := next((name for name, value in given.items() if value is not None), None):
            raise ValueError(f"--import converts a file without a model; leave out {needless}")
        _import(source, Path(out), images, balanced, quiet)
        return
    if model is None:
        raise ValueError("no model is named; add --model, or --import for a file of answers with labels")
    if images is not None:
        raise ValueError("--images is for --import; the pictures of questions are found beside their file")
    if completer is not None and (not completions or ray is not None or completer == model):
        why = (
            "needs --completions K" if not completions
            else "cannot be combined with --ray, whose workers open one model each" if ray is not None
            else "is the model itself; name another one"
        )  # fmt: skip
        raise ValueError(f"--completer {why}; change that, or drop --completer")

    from llava_cot.data.reading import RecordFile
    from llava_cot.data.rollouts.duel_set import checkable
    from llava_cot.data.rollouts.rollout_set import RolloutSettings, make_rollouts
    from llava_cot.data.store import check_store_folder
    from llava_cot.errors import DataError
    from llava_cot.view.progress import ProgressDisplay
    from llava_cot.view.summaries import rollouts_end, show_annotation

    folder, records = Path(out), RecordFile(source)
    settings = RolloutSettings(samples, completions, sampling)
    check_store_folder(folder)
    total = sum(1 for _ in checkable(records, limit))
    if not total:
        raise DataError(f"{records.file} has no question whose answers can be checked by comparing words")
    progress = ProgressDisplay("questions", total, quiet=quiet, resume_with="the same command")
    opening = _open(model, completer, model_name, ray, at_once, hardware.given())
    with opening as (models, in_flight), progress:
        done = make_rollouts(
            folder, records, models, settings,
            agree_within=agree_within, balanced=balanced, limit=limit, at_once=in_flight,
            on_progress=show_annotation(progress), on_interrupt=progress.interrupting,
        )  # fmt: skip
    progress.notes(rollouts_end(folder, done.summary, done.why))
    raise typer.Exit(1 if done.summary.pending else 0)


@contextmanager
def _open(
    model: str,
    completer: str | None,
    model_name: str | None,
    ray: str | None,
    at_once: int | None,
    hardware: dict[str, Any],
) -> Iterator[tuple[list[RolloutModel], int]]:
    """The models that answer and complete, and how many questions to have in flight."""
    from llava_cot.data.rollouts.rollout_set import RolloutModel
    from llava_cot.evaluation.plan import LOCAL_AT_ONCE, SERVER_AT_ONCE
    from llava_cot.models.endpoint.balancing import BalancedModel
    from llava_cot.models.endpoint.client import EndpointModel
    from llava_cot.models.registry import open_model

    with ExitStack() as stack:
        if ray is not None:
            if model_name is not None:
                raise ValueError(
                    "--model-name is for servers and --ray for local models; leave one of them out"
                )
            from llava_cot.evaluation.cluster import Cluster

            # Ray writes about calls that it repeats to standard output, which is for results.
            stack.enter_context(redirect_stdout(sys.stderr))
            cluster = stack.enter_context(closing(Cluster(ray, model, **hardware)))
            yield [RolloutModel(cluster.name, cluster.call)], at_once or LOCAL_AT_ONCE * cluster.workers
            return
        names, most = [(model, model_name), (completer, None)], at_once or SERVER_AT_ONCE
        opened = [
            stack.enter_context(closing(open_model(spec, model_name=name, in_flight=most, **hardware)))
            for spec, name in names
            if spec is not None
        ]
        served = isinstance(opened[0], EndpointModel | BalancedModel)
        in_flight = at_once or (SERVER_AT_ONCE if served else LOCAL_AT_ONCE)
        yield [RolloutModel.here(one) for one in opened], in_flight


def _import(source: str, folder: Path, images: str | None, balanced: bool, quiet: bool) -> None:
    from llava_cot.data.rollouts.import_steps import import_rollouts
    from llava_cot.view.progress import ProgressDisplay
    from llava_cot.view.summaries import rollouts_end

    with ProgressDisplay("lines", quiet=quiet) as progress:
        summary = import_rollouts(
            source, folder, images=images, balanced=balanced, on_progress=progress.update
        )
    progress.notes(rollouts_end(folder, summary, None))
