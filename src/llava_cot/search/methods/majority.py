"""Majority voting over whole answers (self-consistency, arXiv 2203.11171), without a judge.

Voting with the same number of samples is the baseline of every judged method.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from llava_cot.core.answer_matching import canonical
from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat, parse
from llava_cot.core.trace import Candidate
from llava_cot.search.methods.base import method
from llava_cot.search.search import Search


@method("majority", budgeted=True)
async def majority(search: Search) -> None:
    """Sample n whole answers, or as many as the budget pays for, and keep the first of the most frequent."""
    candidates = await search.sample("answer")
    search.keep(elect(candidates, search.question, search.fmt, search.rng))


def elect(
    candidates: Sequence[Candidate], question: Question, fmt: StageFormat, rng: random.Random
) -> Candidate:
    """The first candidate that has the most frequent extracted answer.

    A sample without an answer does not vote. Ties are settled by `rng`, and so is a vote without any ballot.
    """
    ballots = [ballot(candidate.text, question, fmt) for candidate in candidates]
    votes = Counter(filter(None, ballots))
    if not votes:
        return rng.choice(candidates)
    most = max(votes.values())
    elected = rng.choice([answer for answer, count in votes.items() if count == most])
    return candidates[ballots.index(elected)]


def ballot(text: str, question: Question, fmt: StageFormat) -> str:
    """The extracted answer in its canonical spelling; empty if there is none."""
    answer = parse(text, fmt).answer
    return canonical(answer, question.options) if answer else ""
