"""The paper's claims put to the test: what is run, and what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llava_cot.evaluation.report.arms import Arm
from llava_cot.evaluation.report.document import ReportSection
from llava_cot.evaluation.report.judging import ArmJudging
from research.paper import budgets, claims, judge_claim, training_claim


def claim_sections(arms: Sequence[Arm], model: str, judging: Mapping[Arm, ArmJudging]) -> list[ReportSection]:
    """Return a section for each claim that these arms can answer, of one benchmark."""
    found = {(arm.model, arm.method): arm for arm in arms}
    sections = [training_claim.training(found)] if training_claim.trained_models(found) else []
    sections += [claims.scaling(found, model), claims.methods(found, model)]
    sections.append(judge_claim.judges(found, model, judging))
    if budgets.adaptive_arms(found, model):
        sections.append(budgets.adaptive(found, model))
    if (section := claims.baselines(found, model)) is not None:
        sections.append(section)
    return sections
