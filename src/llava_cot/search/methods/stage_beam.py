"""Stage-level beam search, the method of the paper (arXiv 2411.10440, section 3.2)."""

from __future__ import annotations

from llava_cot.core.stages import next_stage
from llava_cot.search.methods.base import method
from llava_cot.search.search import Search


@method("stage-beam", judge="self", budgeted=True)
async def stage_beam(search: Search) -> None:
    """Sample n candidates a stage, keep the tournament's winner, go on from it.

    A candidate ends with the closing tag of its stage or of a later one, so a skipped stage is seen, and the
    search goes on after the last stage that was closed. A candidate that the model ended is a whole answer:
    if it wins, the search ends. One that ran out of tokens has its stage closed; if it opened none, it too
    ends the search.
    """
    at, fmt = 0, search.fmt
    while at < len(fmt.stages):
        candidates = await search.sample(fmt.names[at], stop=fmt.closing_tags[at:])
        best = await search.best(candidates)
        search.keep(best)
        at = next_stage(at, best.text, best.finish, fmt)
