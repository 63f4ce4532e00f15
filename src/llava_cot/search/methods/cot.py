"""Chain of thought by prompt alone, for models without stage training.

Zero-shot (Kojima et al., arXiv 2205.11916): the question with "Let's think step by step", then a second call
that extracts the answer. Few-shot (Wei et al., arXiv 2201.11903): worked examples before the question, whose
form of answer the model imitates.
"""

from __future__ import annotations

from llava_cot.core.question import question_text
from llava_cot.core.stages import parse
from llava_cot.models.base import Message, Prompt
from llava_cot.search.methods.base import method
from llava_cot.search.resources import Example
from llava_cot.search.restaging import in_stages, keep_thought, read_answer, request_answer, thought_stage
from llava_cot.search.search import Search

THINK = "Let's think step by step."  # the best trigger of arXiv 2205.11916, table 4


@method("cot", single=True)
async def cot(search: Search) -> None:
    """Request a thought step by step, then its answer; one call if the model answers in stages by itself."""
    question = search.question
    prompt = Message("user", f"{question_text(question)}\n\n{THINK}", question.images)
    await _think(search, (prompt,), reads_answer=False)


@method("cot-few-shot", single=True, requires=("examples",))
async def cot_few_shot(search: Search) -> None:
    """Show worked examples before the question; a second call if the reply does not end with its answer."""
    question = search.question
    shown = [turn for example in search.resources.examples for turn in _turns(example)]
    prompt = Message("user", question_text(question), question.images)
    await _think(search, (*shown, prompt), reads_answer=True)


def _turns(example: Example) -> tuple[Message, Message]:
    question = Message("user", question_text(example.question), example.question.images)
    return question, Message("assistant", example.answer)


async def _think(search: Search, messages: tuple[Message, ...], *, reads_answer: bool) -> None:
    search.start(thought_stage(search.fmt) or "reasoning")
    reply = await search.reply(Prompt(messages))
    if not in_stages(reply.text, search.fmt):
        thought, answer = read_answer(reply.text) if reads_answer else (reply.text, None)
        await keep_thought(search, reply, thought, answer, messages)
        return
    search.keep(search.add(reply))
    if not parse(reply.text, search.fmt).conclusion:
        await request_answer(search, messages, reply.text)
