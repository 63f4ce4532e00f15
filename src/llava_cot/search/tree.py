"""A search that keeps several candidates at once: where each stands, its continuations, the best of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llava_cot.core.stages import next_stage
from llava_cot.core.trace import Candidate
from llava_cot.models.base import Continuation
from llava_cot.search.search import Search, close_cut


@dataclass(frozen=True)
class Node:
    """A leaf of the tree.

    Attributes:
        candidate: The leaf's last candidate; None for the empty answer.
        after: The index of the stage that comes next; past the last stage if the answer has ended.
        score: The judge's score, once it has been asked for.
    """

    candidate: Candidate | None = None
    after: int = 0
    score: float | None = None

    @property
    def leaf(self) -> Candidate:
        """The candidate. Raises ValueError for the empty answer."""
        if self.candidate is None:
            raise ValueError("the empty answer has no candidate; grow the node first")
        return self.candidate


async def grow(search: Search, nodes: Sequence[Node], n: int, at: int) -> list[Node]:
    """n candidates for stage `at` from each node, all sampled together, in the order of the nodes.

    A node that is past this stage, since the model skipped it or ended the answer, is returned as it is.
    """
    fmt = search.fmt
    settings = [search.sampling(stop=fmt.closing_tags[at:]) for _ in nodes]
    if all(node.after > at for node in nodes):
        return list(nodes)
    stage = fmt.names[at]
    search.start(stage)

    async def sample(i: int) -> list[Continuation]:
        if nodes[i].after > at:
            return []
        return await search.write(search.line(nodes[i].candidate), n, settings[i])

    sampled = await asyncio.gather(*map(sample, range(len(nodes))))
    grown: list[Node] = []
    for node, continuations in zip(nodes, sampled, strict=True):
        for continuation in continuations:
            candidate = search.add(close_cut(continuation, stage, fmt), node.candidate)
            grown.append(Node(candidate, next_stage(at, candidate.text, candidate.finish, fmt)))
        if node.after > at:
            grown.append(node)
    return grown


async def score(search: Search, nodes: Sequence[Node]) -> list[Node]:
    """The nodes with their scores, the best first, of equals the earlier; one that has a score keeps it."""
    new = [node.candidate for node in nodes if node.candidate is not None and node.score is None]
    scores = iter(await search.scores(new))
    return ranked([replace(node, score=next(scores)) if node.score is None else node for node in nodes])


def ranked(nodes: Sequence[Node]) -> list[Node]:
    """Scored nodes, the best first."""
    return sorted(nodes, key=lambda node: -math.inf if node.score is None else node.score, reverse=True)


async def select(search: Search, nodes: Sequence[Node], count: int) -> list[Node]:
    """The best `count`; if there are no more, all as they are, without using the judge."""
    return list(nodes) if len(nodes) <= count else (await score(search, nodes))[:count]
