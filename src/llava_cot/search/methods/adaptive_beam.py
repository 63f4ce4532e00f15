"""Stage-level beam search for the questions on which the first answers disagree.

Self-consistency (arXiv 2203.11171) rests on agreeing samples being mostly right; here agreement tells where a
search has nothing to decide.
"""

from __future__ import annotations

from llava_cot.search.methods.base import method
from llava_cot.search.methods.majority import ballot
from llava_cot.search.methods.stage_beam import stage_beam
from llava_cot.search.search import Search

FIRST = 2  # the fewest answers that can disagree


@method("adaptive-stage-beam", judge="self")
async def adaptive_stage_beam(search: Search) -> None:
    """Sample two whole answers; keep the first if they agree, else search with n candidates for each stage.

    Samples without an answer agree with nothing.
    """
    candidates = await search.sample("answer", min(FIRST, search.n))
    ballots = {ballot(candidate.text, search.question, search.fmt) for candidate in candidates}
    if len(ballots) == 1 and "" not in ballots:
        search.keep(candidates[0])
    else:
        await stage_beam(search)
