"""Rollouts of one question: answers sampled from a model, and completions of the beginnings of answers.

Both are functions of a model that is in this process, so that a worker of a cluster can run them too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT
from llava_cot.core.trace import Candidate, Usage
from llava_cot.data.rollouts.labeling import is_right
from llava_cot.data.rollouts.rollout_file import stage_ends
from llava_cot.models.base import Continuation, Model, Sampling, check_sampling, seed_of
from llava_cot.search.judges.base import cost
from llava_cot.search.request import make_request
from llava_cot.search.search import Search


@dataclass(frozen=True)
class SampledAnswer:
    """A text that was sampled `times` times, and its log-probability when it was first sampled."""

    text: str
    times: int
    logprob: float | None


@dataclass(frozen=True)
class SampledAnswers:
    """The distinct answers that were sampled, in the order in which they came, and what they cost."""

    answers: tuple[SampledAnswer, ...]
    usage: Usage


@dataclass(frozen=True)
class CompletedPrefix:
    """How many completions of an answer's beginning end right, and how many wrong, and what they cost.

    Of those that are neither, words do not tell.
    """

    right: int
    wrong: int
    usage: Usage


async def sample_answers(model: Model, question: Question, n: int, sampling: Sampling) -> SampledAnswers:
    """Sample n whole answers as `majority` does; a model without stages is prompted for them.

    Raises ModelError.
    """
    check_sampling(model, model.name, sampling)
    search = Search(make_request("majority", n=n, sampling=sampling), model, question)
    found: dict[str, SampledAnswer] = {}
    for one in await search.sample("answer"):
        known = found.get(one.text)
        found[one.text] = (
            SampledAnswer(one.text, 1, one.logprob)
            if known is None
            else replace(known, times=known.times + 1)
        )
    return SampledAnswers(tuple(found.values()), search.so_far().usage)


async def complete_prefixes(
    model: Model, question: Question, prefixes: Sequence[str], n: int, sampling: Sampling
) -> list[CompletedPrefix]:
    """Complete the beginnings of answers n times each, all at once. The question has its reference.

    What a beginning gives depends on it and the sampling alone, not on the others. Raises ModelError.
    """
    check_sampling(model, model.name, sampling)
    search = Search(make_request("majority", n=n, sampling=sampling), model, question)
    search.start("answer")

    async def one(prefix: str) -> CompletedPrefix:
        begun = Candidate(id=0, parent=None, round=0, stage="answer", text=prefix)
        seeded = replace(sampling, seed=seed_of(sampling.seed, prefix))
        found = await search.write([begun], n, seeded)
        right = [is_right(prefix + more.text, question) for more in found]
        return CompletedPrefix(right.count(True), right.count(False), _cost(found))

    return list(await asyncio.gather(*map(one, prefixes)))


def _cost(continuations: Sequence[Continuation]) -> Usage:
    total = Usage()
    for continuation in continuations:
        total += cost(continuation)
    return total


def prefixes_of(text: str) -> dict[str, str | None]:
    """The text up to the end of each closed stage, by the stage's name.

    None where nothing follows, or the conclusion is already there: the value is then that of the answer.
    """
    ends = stage_ends(text)
    concluded = min(len(text.rstrip()), ends.get(LLAVA_COT.final, len(text)))
    return {name: text[:end] if end < concluded else None for name, end in ends.items()}
