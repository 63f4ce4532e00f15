"""One sample: with its stages, the baseline of every search; and without, the baseline of the stages."""

from __future__ import annotations

from llava_cot.core.question import question_text
from llava_cot.models.base import Prompt
from llava_cot.search.methods.base import method
from llava_cot.search.search import Search


@method("single", single=True)
async def single(search: Search) -> None:
    """Sample one whole answer, streamed as it is written."""
    [candidate] = await search.sample("answer", 1, stream=True)
    search.keep(candidate)


@method("direct", single=True)
async def direct(search: Search) -> None:
    """Sample one answer to the question as it is; a model that was trained on stages writes them."""
    search.start("answer")
    prompt = Prompt.of(question_text(search.question), search.question.images)
    search.keep(search.add(await search.reply(prompt, stream=True)))
