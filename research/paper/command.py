"""The command `llava-cot reproduce`. Everything heavy is imported when it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llava_cot.cli.options import new_app

if TYPE_CHECKING:
    from llava_cot.evaluation.report.arms import Arm
    from llava_cot.evaluation.report.document import ReportSection
    from llava_cot.evaluation.report.judging import ArmJudging

app = new_app()
_TITLE = "LLaVA-CoT\u2019s claims in miniature"


@app.command()
def reproduce(
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="The folder of the runs and the report; an unfinished one is resumed."
        ),
    ] = Path("reproduction"),
    model: Annotated[str, typer.Option(metavar="M", help="A model of your own, as for `ask`.")] = "mini",
    benchmark: Annotated[str, typer.Option(metavar="BENCH", help="As for `eval`.")] = "scenes",
    limit: Annotated[int, typer.Option(metavar="K", min=1, help="The first K questions.")] = 1000,
    seeds: Annotated[int, typer.Option(metavar="S", min=1, help="Answer everything S times.")] = 2,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also run the other ways of reasoning and selecting.")
    ] = False,
    ablations: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder of mini-direct and mini-untagged; the repository's research/mini/weights if not "
            "given.",
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="The most new tokens of one sample; 200 for mini, 2048 for others."
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

    from llava_cot.core.wording import one_line
    from llava_cot.evaluation.benchmarks import open_benchmark
    from llava_cot.evaluation.results import RunResults
    from llava_cot.evaluation.statistics import check_scipy
    from llava_cot.view.progress import ProgressDisplay
    from llava_cot.view.report_page import write_report
    from llava_cot.view.summaries import by_reason
    from research.paper import claim_sections
    from research.paper.run_tasks import ReproductionSettings, run_tasks
    from research.paper.tasks import default_ablations, reproduction_tasks

    check_scipy()
    mini = model == "mini"
    open_benchmark(benchmark)
    if ablations is not None and not ablations.is_dir():
        raise ValueError(f"there is no folder {ablations}; name that of mini-direct with --ablations")
    ablations = ablations or default_ablations()
    if mini and ablations is None:
        print(
            "the first claim is left out: its checkpoints, mini-direct and mini-untagged, are not in the "
            "package; get research/mini/weights of the repository, and name that folder with --ablations",
            file=sys.stderr,
        )
    settings = ReproductionSettings(out, benchmark, limit, max_tokens or (200 if mini else 2048))
    tasks = reproduction_tasks(model, range(seeds), baselines, ablations)
    if out.is_file():
        raise ValueError(f"{out} is a file; name a folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    at_once = processes or (min(len(tasks), os.cpu_count() or 1) if mini else 1)
    claims: list[ReportSection] = []

    def lead(arms: Sequence[Arm], judging: Mapping[Arm, ArmJudging]) -> Sequence[ReportSection]:
        claims.extend(claim_sections(arms, model, judging))
        return claims

    with ProgressDisplay(resume_with="the same command") as progress:
        outcomes = run_tasks(settings, tasks, at_once, lambda done, total: progress("answers", done, total))
        with RunResults([out / task.name for task in tasks if (out / task.name).is_dir()]) as results:
            page = write_report(
                results, out, baseline="single", lead=lead, title=_TITLE, on_progress=progress
            )
    for claim in claims:
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
