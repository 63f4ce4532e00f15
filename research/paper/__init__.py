"""The paper's claims put to the test: what is run, and what was found."""

from __future__ import annotations

from collections.abc import Sequence

from llava_cot.evaluation.report.arms import Arm
from llava_cot.evaluation.report.document import ReportSection
from research.paper import budgets, claims


def claim_sections(arms: Sequence[Arm], model: str) -> list[ReportSection]:
    """Return a section for each claim that these arms can answer, of one benchmark."""
    found = {(arm.model, arm.method): arm for arm in arms}
    sections = [claims.training(found)] if ("mini-direct", "single") in found else []
    sections += [claim(found, model) for claim in (claims.scaling, claims.methods, claims.judges)]
    if budgets.adaptive_arms(found, model):
        sections.append(budgets.adaptive(found, model))
    if (section := claims.baselines(found)) is not None:
        sections.append(section)
    return sections
