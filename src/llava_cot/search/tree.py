"""A search that keeps several candidates at once: where each stands, what it goes on to, which are the best.

Owns what becomes of candidates that are ahead of the search. Knows no concrete judge.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llava_cot.core.trace import Candidate
from llava_cot.models.base import Continuation, Model, Sampling
from llava_cot.search.grading import grade
from llava_cot.search.judges.base import Judge
from llava_cot.search.methods.base import go_on
from llava_cot.search.methods.stage_beam import close_cut, next_stage
from llava_cot.search.search import Recorder, text_of, tokens_of


@dataclass(frozen=True)
class Node:
    """A candidate, the index of the stage that comes after it (past the last if it ends the answer), and its
    score once it has been graded. Without a candidate: the empty answer."""

    candidate: Candidate | None = None
    after: int = 0
    score: float | None = None


async def grow(
    record: Recorder,
    model: Model,
    nodes: Sequence[Node],
    n: int,
    at: int,
    sampling: Sampling,
    rng: random.Random,
) -> list[Node]:
    """`n` candidates for stage `at` from each node, all sampled together, in the order of the nodes.

    A node that is past this stage, since the model skipped it or ended the answer, stands for itself.
    """
    fmt = record.fmt
    stops = fmt.closing_tags[at:]
    seeds = [rng.getrandbits(63) for _ in nodes]

    async def sample(node: Node, seed: int) -> list[Continuation]:
        if node.after > at:
            return []
        line, settings = record.line(node.candidate), replace(sampling, stop=stops, seed=seed)
        return await go_on(model, record.question, text_of(line), tokens_of(line), n, settings)

    if all(node.after > at for node in nodes):
        return list(nodes)
    stage = fmt.names[at]
    record.start(stage)
    sampled = await asyncio.gather(*map(sample, nodes, seeds))
    grown: list[Node] = []
    for node, continuations in zip(nodes, sampled, strict=True):
        for continuation in continuations:
            candidate = record.add(close_cut(continuation, stage, fmt), node.candidate)
            grown.append(Node(candidate, next_stage(at, candidate.text, candidate.finish, fmt)))
        if node.after > at:
            grown.append(node)
    return grown


async def weigh(record: Recorder, judge: Judge, nodes: Sequence[Node], rng: random.Random) -> list[Node]:
    """The nodes with their scores, the best first, of equals the earlier; one that has a score keeps it."""
    new = [node.candidate for node in nodes if node.candidate is not None and node.score is None]
    scores = iter(await grade(record, judge, new, rng))
    return ranked([replace(node, score=next(scores)) if node.score is None else node for node in nodes])


def ranked(nodes: Sequence[Node]) -> list[Node]:
    """Nodes that have scores, in their order."""
    return sorted(nodes, key=lambda node: -math.inf if node.score is None else node.score, reverse=True)


async def select(
    record: Recorder, judge: Judge, nodes: Sequence[Node], keep: int, rng: random.Random
) -> list[Node]:
    """The best `keep`; where there are no more, all as they are, without asking the judge."""
    return list(nodes) if len(nodes) <= keep else (await weigh(record, judge, nodes, rng))[:keep]
