"""Best of N: whole answers, and the judge's tournament between them (arXiv 2411.10440, section 4.3)."""

from __future__ import annotations

from llava_cot.search.methods.base import method
from llava_cot.search.search import Search


@method("best-of-n", judge="self", budgeted=True)
async def best_of_n(search: Search) -> None:
    """Sample n whole answers, or as many as the budget pays for, and keep the tournament's winner."""
    candidates = await search.sample("answer")
    search.keep(await search.best(candidates))
