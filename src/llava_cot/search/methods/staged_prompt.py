"""The stages requested by a prompt alone, in one pass: the baseline of fine-tuning on them.

The comparison of arXiv 2411.10440, version 6, table 7, in our own wording.
"""

from __future__ import annotations

from llava_cot.search.methods.base import method
from llava_cot.search.search import Search
from llava_cot.search.stage_prompting import tagged_prompt


@method("staged-prompt", single=True)
async def staged_prompt(search: Search) -> None:
    """Explain the stages in the prompt, and sample one answer, streamed."""
    search.start("answer")
    reply = await search.reply(tagged_prompt(search.question, search.fmt), stream=True)
    search.keep(search.add(reply))
