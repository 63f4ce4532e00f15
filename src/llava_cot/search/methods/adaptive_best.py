"""Best of N that stops as soon as the judge is sure of a candidate.

The judge's scores must be probabilities: sure must mean the same for every question. A reward model's scores
have no such scale.
"""

from __future__ import annotations

from llava_cot.core.trace import Candidate
from llava_cot.search.methods.base import method
from llava_cot.search.search import Search

# All further candidates together can raise the probability of being right by at most 1 - SURE. With a
# calibrated judge, at least this share of the answers that are kept early are right.
SURE = 0.9


@method("adaptive-best-of-n", judge="logits", scores=True, probabilities=True)
async def adaptive_best_of_n(search: Search) -> None:
    """Sample whole answers one by one, until the judge is sure of one or there are n; keep the best.

    They are the first ones that `best-of-n` samples with the same seed. Of equal scores the first is kept.
    """
    candidates: list[Candidate] = []
    scores: list[float] = []
    search.begin("answer")
    while len(candidates) < search.n and max(scores, default=0.0) < SURE:
        candidates += await search.more(1)
        scores += await search.scores(candidates[-1:])
    search.keep(candidates[scores.index(max(scores))])
