"""The command `llava-cot reproduce`. Everything heavy is imported when it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llava_cot.cli.options import new_app
from research.paper import sizes

if TYPE_CHECKING:
    from llava_cot.evaluation.report.arms import Arm
    from llava_cot.evaluation.report.document import ReportSection
    from llava_cot.evaluation.report.judging import ArmJudging

app = new_app()
_TITLE = "LLaVA-CoT\u2019s claims in miniature"
_MINI, _MINI_BASE, _MINI_REWARD = "mini", "mini-base", "mini-reward"


@app.command()
def reproduce(
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="The folder of models, runs and the report; an unfinished one is resumed.",
        ),
    ] = Path("reproduction"),
    model: Annotated[
        str,
        typer.Option(metavar="M", help="The model that searches: mini, or one of your own, as for `ask`."),
    ] = _MINI,
    judge_model: Annotated[
        str | None,
        typer.Option(
            metavar="M",
            help="What was trained from it for the judge implicit; mini-reward for mini, none for others.",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="M",
            help="The checkpoint that the ways of training start from; mini-base for mini. Without one, no "
            "model is trained.",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Train no models, and use fewer questions.")] = False,
    benchmark: Annotated[str, typer.Option(metavar="BENCH", help="As for `eval`.")] = sizes.BENCHMARK,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=1,
            help=f"The first K questions; {sizes.QUESTIONS}, or {sizes.QUICK_QUESTIONS} if quick.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="S", min=1, help="Answer everything S times.")] = 1,
    training_questions: Annotated[
        int, typer.Option(metavar="K", min=1, help="Train on so many hard scenes.")
    ] = sizes.TRAINING_QUESTIONS,
    training_seeds: Annotated[
        int, typer.Option(metavar="S", min=2, help="Train each way S times.")
    ] = sizes.TRAINING_SEEDS,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also run the other ways of reasoning and selecting.")
    ] = False,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help=f"The most new tokens of one sample; {sizes.MINI_TOKENS} for mini, {sizes.OTHER_TOKENS} for "
            "others.",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, metavar="P", help="Processes; for mini one a processor, for others 1."),
    ] = None,
) -> None:
    """Test the paper's claims on mini, or on your model (without the claim about training)."""
    import os
    import sys
    from collections import Counter
    from functools import partial

    from llava_cot.core.wording import one_line
    from llava_cot.evaluation.benchmarks import open_benchmark
    from llava_cot.evaluation.results import RunResults
    from llava_cot.evaluation.statistics import check_scipy
    from llava_cot.view.progress import ProgressDisplay
    from llava_cot.view.report_page import write_report
    from llava_cot.view.summaries import by_reason
    from research.paper import claim_sections
    from research.paper.arm_training import make_data, steps_of, train_arm, trainings
    from research.paper.run_tasks import ReproductionSettings, answer_questions, calibrate, run_tasks
    from research.paper.tasks import arm_tasks, search_tasks

    check_scipy()
    mini = model == _MINI
    open_benchmark(benchmark)
    if quick and base is not None:
        raise ValueError("--quick trains no models; leave --base out")
    if mini:
        judge_model = judge_model or _built_in(_MINI_REWARD)
        base = base if base or quick else _built_in(_MINI_BASE)
    for name in filter(None, (base, judge_model)):
        _check_model(name)
    if out.is_file():
        raise ValueError(f"{out} is a file; name a folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    limit = limit or (sizes.QUICK_QUESTIONS if quick else sizes.QUESTIONS)
    tokens = max_tokens or (sizes.MINI_TOKENS if mini else sizes.OTHER_TOKENS)
    settings = ReproductionSettings(out, benchmark, limit, tokens)
    to_train = [] if base is None else trainings(base, out / "training", range(training_seeds))
    tasks = search_tasks(model, judge_model, range(seeds), baselines)
    tasks += [] if base is None else arm_tasks(base, to_train)
    at_once = processes or (os.cpu_count() or 1 if mini else 1)
    found: list[ReportSection] = []

    def lead(arms: Sequence[Arm], judging: Mapping[Arm, ArmJudging]) -> Sequence[ReportSection]:
        found.extend(claim_sections(arms, model, judging))
        return found

    with ProgressDisplay(resume_with="the same command") as progress:
        if to_train:
            make_data(out / "training", training_questions, progress)
            steps = len(to_train) * steps_of(training_questions)
            run_tasks(train_arm, to_train, at_once, lambda done: progress("training, steps", done, steps))
        if judge_model is not None:
            calibrate(settings, model, judge_model, lambda done: progress("calibrating", done))
        answers = sum(len(task.methods) for task in tasks) * limit
        outcomes = run_tasks(
            partial(answer_questions, settings),
            tasks,
            at_once,
            lambda done: progress("answers", done, answers),
        )
        with RunResults([out / task.name for task in tasks]) as results:
            page = write_report(
                results, out, baseline="single", lead=lead, title=_TITLE, on_progress=progress
            )
    for claim in found:
        print(f"{claim.title}")
        for sentence in claim.parts:
            if isinstance(sentence, str):
                print(f"  {sentence}")
    missing = Counter[str]()
    for outcome in outcomes:
        missing.update(outcome.left_out.get("missing", {}))
    if missing:
        print(f"{missing.total():,} answers are missing and count as wrong:", file=sys.stderr)
    for line in by_reason("missing", "answer", missing):
        print(line, file=sys.stderr)
    for reason in dict.fromkeys(reason for outcome in outcomes for reason in outcome.abandoned.values()):
        print(f"a model was given up: {one_line(reason)}", file=sys.stderr)
    print(f"wrote {page}", file=sys.stderr)
    if missing:
        raise typer.Exit(1)


def _built_in(name: str) -> str | None:
    """The name of a model in the package; None, with a note, if this version does not have it."""
    from llava_cot.models.registry import BUILT_IN

    if name in BUILT_IN:
        return name
    typer.echo(f"this version of the package has no {name}: what needs it is left out", err=True)
    return None


def _check_model(name: str) -> None:
    """Raise ValueError for a model that is not here, before anything is trained."""
    from llava_cot.models.registry import find_checkpoint, parse_model

    kind = parse_model(name).kind
    if kind in ("built-in", "folder") and not (find_checkpoint(name).folder / "config.json").is_file():
        raise ValueError(f"there is no model {name}; name a checkpoint's folder, or a model of `ask`")
