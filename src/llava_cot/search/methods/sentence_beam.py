"""Sentence-level beam search, a baseline of the paper (arXiv 2411.10440, section 4.3)."""

from __future__ import annotations

from llava_cot.core.stages import SENTENCE, last_closed
from llava_cot.search.methods.base import method
from llava_cot.search.search import Search

# White space must follow: the point of 3.14 ends no sentence. A model drops that white space when it
# stops there, and the next sentence begins with it.
SENTENCE_ENDS = tuple(mark + space for mark in ".!?" for space in (" ", "\n"))


@method("sentence-beam", judge="self")
async def sentence_beam(search: Search) -> None:
    """Keep the winner of n next sentences until the answer ends; the end of a stage ends a sentence too.

    Here the request's `max_tokens` is for the whole answer, and so bounds the number of rounds.
    """
    fmt, left = search.fmt, search.request.sampling.max_tokens
    while left > 0:
        stop = (*SENTENCE_ENDS, *fmt.closing_tags)
        best = await search.best(await search.sample(SENTENCE, stop=stop, max_tokens=left))
        search.keep(best)
        left -= max(1, best.completion_tokens)
        if best.finish == "eos" or last_closed(search.text, fmt) == len(fmt.stages) - 1:
            break
