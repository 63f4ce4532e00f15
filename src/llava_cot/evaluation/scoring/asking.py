"""Scoring one conclusion by a rule, with a model to ask where the words alone do not settle it.

Owns the order of the steps and the number of attempts. Knows no benchmark; a model only as a function.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, ScoringRule
from llava_cot.models.base import Prompt

ATTEMPTS = 3

# Given a prompt and the number of the attempt, from 0: the scorer's reply. The caller keeps each reply under
# that number, so that none is paid for twice, and draws each attempt from another seed.
Ask = Callable[[Prompt, int], Awaitable[str]]


async def score(
    rule: ScoringRule, item: BenchmarkItem, conclusion: str | None, ask: Ask | None
) -> AnswerScore:
    """What a conclusion is worth; None is one that is absent.

    A scorer is asked only where `rule.match` settles nothing, and again, up to three times in all, while its
    reply cannot be read. Without a scorer, or without a reply that can be read, the score is "unsettled":
    worth 0, and told apart from what is wrong. What `ask` raises goes through.
    """
    if conclusion is None:
        return AnswerScore(0.0, "absent")
    if (found := rule.match(item, conclusion)) is not None:
        return found
    if ask is None:
        return AnswerScore(
            0.0, "unsettled", reason="the words alone do not settle it, and no scorer was given"
        )
    prompt = rule.prompt(item, conclusion)
    reply = ""
    for attempt in range(ATTEMPTS):
        reply = await ask(prompt, attempt)
        if (found := rule.read(item, conclusion, reply)) is not None:
            return found
    return AnswerScore(
        0.0, "unsettled", reason=f"none of {ATTEMPTS} replies could be read; the last: {reply}"
    )
