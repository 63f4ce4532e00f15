"""Stage-wise beam search, a relative of stage-beam in version 6 of the paper (arXiv 2411.10440).

It scores candidates and keeps several of them, where `stage-beam` compares them and keeps one.
"""

from __future__ import annotations

from llava_cot.search.methods.base import method
from llava_cot.search.search import Search
from llava_cot.search.tree import Node, grow, select


@method("stage-wise-beam", n=4, judge="logits", scores=True)
async def stage_wise_beam(search: Search) -> None:
    """Keep the better half of n candidates a stage, each with its share of the next, and the best at the end.

    A candidate that the model ended, or that is stages ahead, is scored as it stands and keeps its place
    until it is beaten.
    """
    last = len(search.fmt.stages) - 1
    nodes = [Node()]
    for at in range(last + 1):
        grown = await grow(search, nodes, search.n // len(nodes), at)
        nodes = await select(search, grown, 1 if at == last else max(1, search.n // 2))
    search.follow(nodes[0].leaf)
