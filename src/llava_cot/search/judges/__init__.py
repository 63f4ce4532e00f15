"""The judges: whatever prefers one candidate to another, with what each can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from llava_cot.core.stages import StageFormat
from llava_cot.models.base import Model, RewardModel, Sampling
from llava_cot.search.judges.base import Grade, Judge, Opinion, Preference
from llava_cot.search.judges.likelihood import LikelihoodJudge
from llava_cot.search.judges.logits import LogitsJudge
from llava_cot.search.judges.reward_judge import RewardJudge
from llava_cot.search.judges.rules import RulesJudge
from llava_cot.search.judges.self_judge import SelfJudge
from llava_cot.search.judges.verifier import VerifierJudge

__all__ = ["JUDGES", "Grade", "Judge", "JudgeKind", "Opinion", "Preference", "make_judge"]


@dataclass(frozen=True)
class JudgeKind:
    """A judge: `scores` if it grades candidates alone, with the `probability` of being right if that is
    what its scores are. It `asks` a model (the one that answers, unless another is given), a reward model,
    which must be given, or nobody."""

    make: Callable[[Any, StageFormat, Sampling], Judge]
    asks: Literal["model", "reward", "nobody"] = "nobody"
    scores: bool = False
    probability: bool = False


JUDGES: dict[str, JudgeKind] = {
    "self": JudgeKind(SelfJudge, asks="model"),
    "logits": JudgeKind(
        lambda model, fmt, sampling: LogitsJudge(model, fmt), asks="model", scores=True, probability=True
    ),
    "likelihood": JudgeKind(lambda model, fmt, sampling: LikelihoodJudge(), scores=True),
    "reward": JudgeKind(lambda model, fmt, sampling: RewardJudge(model), asks="reward", scores=True),
    "rules": JudgeKind(lambda model, fmt, sampling: RulesJudge(fmt), scores=True, probability=True),
    "verifier": JudgeKind(lambda model, fmt, sampling: VerifierJudge(fmt), scores=True, probability=True),
}


def make_judge(name: str, model: Model | RewardModel, fmt: StageFormat, sampling: Sampling) -> Judge:
    """The judge of this name, on this model. Raises ValueError if there is none."""
    if name not in JUDGES:
        raise ValueError(f"there is no judge {name!r}; choose one of {', '.join(JUDGES)}")
    return JUDGES[name].make(model, fmt, sampling)
