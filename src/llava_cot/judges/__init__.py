"""The judges: whatever prefers one candidate to another."""

from __future__ import annotations

from collections.abc import Callable

from llava_cot.judges.base import Judge, Opinion, Preference
from llava_cot.judges.likelihood import LikelihoodJudge
from llava_cot.judges.logits import LogitsJudge
from llava_cot.judges.self_judge import SelfJudge
from llava_cot.judges.verifier import VerifierJudge
from llava_cot.models.base import Model, Sampling
from llava_cot.stages import StageFormat

__all__ = ["JUDGES", "Judge", "Opinion", "Preference", "make_judge"]

JUDGES: dict[str, Callable[[Model, StageFormat, Sampling], Judge]] = {
    "self": SelfJudge,
    "logits": lambda model, fmt, sampling: LogitsJudge(model, fmt),
    "likelihood": lambda model, fmt, sampling: LikelihoodJudge(),
    "verifier": lambda model, fmt, sampling: VerifierJudge(fmt),
}


def make_judge(name: str, model: Model, fmt: StageFormat, sampling: Sampling) -> Judge:
    """The judge of this name, on this model. Raises ValueError if there is none."""
    if name not in JUDGES:
        raise ValueError(f"there is no judge {name!r}; choose one of {', '.join(JUDGES)}")
    return JUDGES[name](model, fmt, sampling)
