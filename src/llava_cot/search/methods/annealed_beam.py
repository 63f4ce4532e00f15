"""Beam annealing (PRM-BAS, arXiv 2504.10222): a beam that is wide at first, and narrower with each stage.

Early stages have little to go by, so that a judge errs more often there than later.
"""

from __future__ import annotations

from llava_cot.search.methods.base import method
from llava_cot.search.search import Search
from llava_cot.search.tree import Node, grow, select

EACH = 2  # candidates of a stage from each one that was kept before


@method("annealed-beam", n=4, judge="logits", scores=True)
async def annealed_beam(search: Search) -> None:
    """Keep ever fewer of a stage's candidates, the best by score, and go on with two from each.

    With EACH = 2 a search samples at most n candidates a stage on average, as other beams do. A candidate
    that the model ended, or that is stages ahead, is scored as it stands and keeps its place until it is
    beaten.
    """
    nodes = [Node()]
    for at, width in enumerate(widths(search.n, len(search.fmt.stages))):
        grown = await grow(search, nodes, min(EACH, search.n) if at else search.n, at)
        nodes = await select(search, grown, width)
    search.follow(nodes[0].leaf)


def widths(n: int, stages: int) -> list[int]:
    """How many candidates are kept after each stage: from n down to 0 in equal steps, but at least 1.

    Of 4 stages: 3, 2, 1, 1 for n = 4, and 6, 4, 2, 1 for n = 8.
    """
    return [max(1, n * (stages - 1 - at) // stages) for at in range(stages)]
