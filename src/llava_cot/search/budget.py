"""A budget of tokens, split over the stages of a search: how many candidates each stage can pay for.

Owns the rule. What counts are the tokens that candidates and the judge have written, kept or not. Before each
stage the tokens left are shared equally among the stages left. One candidate is sampled; by its length, and
by what the judge has written so far for each candidate beyond a stage's first, follows how many more the
share pays for. Limits on the samples keep the candidates of a question within the budget, if it is at least
`FLOOR` a stage; it can be exceeded by no more than the judge writes at a single stage. Knows no method.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from llava_cot.models.base import Continuation, Model, Sampling
from llava_cot.search.methods.base import propose
from llava_cot.search.search import Recorder

# What every stage may write, whatever is left: enough to open it and to say something brief.
FLOOR = 32
# What a further candidate is reckoned at, as a multiple of the first one's length: samples differ in length,
# and one that meets its limit is cut.
ROOM = 1.5

Propose = Callable[[Recorder, Model, int, Sampling], Awaitable[list[Continuation]]]


def proposing(budget: int | None) -> Propose:
    """How a stage's candidates are sampled within a budget: at most as many as are asked for, at least one.

    As many stages are left as there are closing tags to stop at; a whole answer is one.
    """
    if budget is None:
        return propose

    async def within(record: Recorder, model: Model, n: int, sampling: Sampling) -> list[Continuation]:
        written, reply = _so_far(record)
        left, stages = budget - written, max(1, len(sampling.stop))
        limit = min(sampling.max_tokens, first_limit(left, stages))
        found = await propose(record, model, 1, replace(sampling, max_tokens=limit))
        length = found[0].completion_tokens
        more, limit = further(left, stages, length, length if reply is None else reply, n - 1)
        if more:
            settings = replace(sampling, first=1, max_tokens=min(sampling.max_tokens, limit))
            found += await propose(record, model, more, settings)
        return found

    return within


def first_limit(left: int, stages: int) -> int:
    """The most tokens of a stage's first candidate: all that is left, but `FLOOR` for each stage after it."""
    return max(FLOOR, left - FLOOR * (stages - 1))


def further(left: int, stages: int, length: int, reply: float, most: int) -> tuple[int, int]:
    """How many candidates are sampled beside a first one of so many tokens, and the most tokens of each.

    `left` is what was left before the first, `reply` what the judge is reckoned to write for each of them.
    """
    share = left // stages
    if share < FLOOR:
        return 0, 0
    each = ROOM * max(1, length) + reply
    count = max(0, min(most, int((share - length) / each)))
    if count == 0:
        return 0, 0
    return count, int((left - FLOOR * (stages - 1) - length - count * reply) / count)


def _so_far(record: Recorder) -> tuple[int, float | None]:
    """The tokens that were written, and the judge's for each duel; None if it has not judged yet."""
    trace = record.so_far()
    judging = trace.usage.completion_tokens - sum(c.completion_tokens for c in trace.candidates)
    if trace.judge is None:
        return trace.usage.completion_tokens, 0.0
    return trace.usage.completion_tokens, judging / len(trace.verdicts) if trace.verdicts else None
