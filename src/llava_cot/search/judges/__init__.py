"""The judges, one file each: what prefers one candidate to another."""

from llava_cot.search.judges.base import (
    JUDGES,
    Grade,
    Judge,
    JudgeSetup,
    JudgeType,
    Opinion,
    Preference,
    judge,
)

__all__ = ["JUDGES", "Grade", "Judge", "JudgeSetup", "JudgeType", "Opinion", "Preference", "judge"]
