"""The judges, one file each: what prefers one candidate to another."""

from llava_cot.search.judges.base import (
    JUDGES,
    Judge,
    JudgeScore,
    JudgeSetup,
    JudgeType,
    Opinion,
    Preference,
    judge,
)

__all__ = ["JUDGES", "JudgeScore", "Judge", "JudgeSetup", "JudgeType", "Opinion", "Preference", "judge"]
