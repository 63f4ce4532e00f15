"""One sample: the model answers all stages in one pass. The baseline of every search."""

from __future__ import annotations

from llava_cot.search.methods.base import method
from llava_cot.search.search import Search


@method("single", single=True)
async def single(search: Search) -> None:
    """Sample one whole answer, streamed as it is written."""
    [candidate] = await search.sample("answer", 1, stream=True)
    search.keep(candidate)
