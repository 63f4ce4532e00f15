"""AB-MCTS over stages: adaptive branching Monte Carlo tree search (arXiv 2503.04412), by treequest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from treequest import ABMCTSA

from llava_cot import Search, method
from llava_cot.search.tree import Node, grow, ranked, score


@method("ab-mcts", n=8, judge="logits", scores=True, probabilities=True)
async def ab_mcts(search: Search) -> None:
    """Sample n complete answers, each of which branches off from where Thompson sampling chooses.

    A node of the tree is one candidate for one stage, which continues its parent. Each of the n steps chooses
    a node, samples a candidate for the stage after it, and continues that one to the end of the answer. The
    judge's score of the whole answer, a probability, counts for the new node and for all those above it.
    """
    algorithm: ABMCTSA[Node] = ABMCTSA(dist_type="beta")
    tree = algorithm.init_tree()
    answers: list[Node] = []
    for _ in range(search.n):
        with numpy_seed(search.rng.getrandbits(32)):
            tree, trial = algorithm.ask(tree, ["sample"])
        path: list[Node] = [trial.parent_state or Node()]
        while path[-1].after < len(search.fmt.stages):
            path += await grow(search, path[-1:], 1, path[-1].after)
        [answer] = await score(search, path[-1:])
        assert answer.score is not None
        answers.append(answer)
        # A node that ends an answer has no next stage: if it is chosen again, its score counts once more.
        child = path[1] if len(path) > 2 else answer
        tree = algorithm.tell(tree, trial.trial_id, (child, answer.score))
    search.follow(ranked(answers)[0].leaf)


@contextmanager
def numpy_seed(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, from which treequest draws, and restore it afterwards."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
