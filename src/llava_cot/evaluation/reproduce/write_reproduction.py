"""A reproduction's report: the answers to the claims first, then all that any report has.

Owns which claims can be answered from what has been run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llava_cot.evaluation.report.arms import Arm
from llava_cot.evaluation.report.browse import OnProgress
from llava_cot.evaluation.report.document import ReportSection
from llava_cot.evaluation.report.write import write_report
from llava_cot.evaluation.reproduce import budgets, findings
from llava_cot.evaluation.reproduce.baselines import neighbours
from llava_cot.evaluation.reproduce.tasks import Task
from llava_cot.evaluation.results import open_results

_TITLE = "LLaVA-CoT\u2019s claims in miniature"


def write(
    out: Path, tasks: Sequence[Task], model: str, on_progress: OnProgress
) -> tuple[Path, list[ReportSection]]:
    """Write the report on what the tasks have found; its page, and the claims' sections."""
    claims: list[ReportSection] = []

    def lead(arms: Sequence[Arm]) -> Sequence[ReportSection]:
        found = {(arm.model, arm.method): arm for arm in arms}
        if ("mini-direct", "single") in found:
            claims.append(findings.training(found))
        claims.extend(claim(found, model) for claim in (findings.scaling, findings.methods, findings.judges))
        if budgets.adaptive_arms(found, model):
            claims.append(budgets.adaptive(found, model))
        if (section := neighbours(found)) is not None:
            claims.append(section)
        return claims

    folders = [out / task.name for task in tasks if (out / task.name).is_dir()]
    with open_results(folders) as results:
        page = write_report(
            results,
            out,
            baseline="single",
            lead=lead,
            title=_TITLE,
            on_progress=on_progress,
        )
    return page, claims
