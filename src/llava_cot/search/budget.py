"""A budget of tokens, split over the stages of a search: how many candidates each stage can pay for.

All tokens count that candidates and the judge have written, kept or not. Before each stage the tokens left
are shared equally among the stages left. One candidate is sampled; its length, and what the judge has written
so far for each candidate beyond a stage's first, tell how many more the share pays for. Limits on the samples
keep the candidates of a question within the budget, if it is at least `FLOOR` a stage; it can be exceeded by
no more than the judge writes at a single stage.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llava_cot.models.base import Continuation, Sampling

if TYPE_CHECKING:
    from llava_cot.search.search import Search

# What every stage may write, whatever is left: enough to open it and to say something brief.
FLOOR = 32
# The estimated length of a further candidate as a multiple of the first one's: samples differ in length, and
# one that meets its limit is cut.
ROOM = 1.5


async def draw_within(search: Search, budget: int, n: int, sampling: Sampling) -> list[Continuation]:
    """Sample a stage's candidates within a budget: at most n, at least one.

    As many stages are left as there are closing tags to stop at; a whole answer is one.
    """
    written, reply = _spent(search)
    left, stages = budget - written, max(1, len(sampling.stop))
    limit = min(sampling.max_tokens, first_limit(left, stages))
    found = await search.write(search.path, 1, replace(sampling, max_tokens=limit))
    length = found[0].completion_tokens
    more, limit = further(left, stages, length, length if reply is None else reply, n - 1)
    if more:
        settings = replace(sampling, first=1, max_tokens=min(sampling.max_tokens, limit))
        found += await search.write(search.path, more, settings)
    return found


def first_limit(left: int, stages: int) -> int:
    """The most tokens of a stage's first candidate: all that is left except `FLOOR` for each later stage."""
    return max(FLOOR, left - FLOOR * (stages - 1))


def further(left: int, stages: int, length: int, reply: float, most: int) -> tuple[int, int]:
    """The number of candidates to sample after the first one, and the most tokens of each.

    Args:
        left: Tokens that were left before the first candidate.
        stages: Stages that are left, this one included.
        length: Tokens of the first candidate.
        reply: Tokens that the judge is expected to write for each further candidate.
        most: The most further candidates.
    """
    share = left // stages
    if share < FLOOR:
        return 0, 0
    each = ROOM * max(1, length) + reply
    count = max(0, min(most, int((share - length) / each)))
    if count == 0:
        return 0, 0
    return count, int((left - FLOOR * (stages - 1) - length - count * reply) / count)


def _spent(search: Search) -> tuple[int, float | None]:
    """The tokens written so far, and the judge's for each duel; None if it has not judged yet."""
    trace = search.so_far()
    judging = trace.usage.completion_tokens - sum(c.completion_tokens for c in trace.candidates)
    if trace.judge is None:
        return trace.usage.completion_tokens, 0.0
    return trace.usage.completion_tokens, judging / len(trace.verdicts) if trace.verdicts else None
