"""Prism: one model sees, another one reasons (Qiao et al., arXiv 2406.14544).

The model describes the image, by a fixed instruction or, in `prism-query`, by what the reasoner requests for
the question. The reasoner answers from the description and the question; it gets no image, and may be a text
model. The wording of the prompts is our own.
"""

from __future__ import annotations

from llava_cot.core.question import answer_form, question_text
from llava_cot.core.stages import parse
from llava_cot.models.base import Message, Prompt
from llava_cot.search.methods.base import method
from llava_cot.search.restaging import (
    description_stage,
    in_stages,
    keep_as,
    keep_thought,
    plain,
    read_answer,
    thought_stage,
)
from llava_cot.search.search import Search

INSTRUCTION = "instruction"  # the round in which the reasoner says what to look for

DESCRIBE = (
    "Describe in detail what there is to see: the scene, each object with its looks and its place, how the "
    "objects relate to one another, and any text, word for word. Describe only: the reader cannot see it."
)
ABOVE_ALL = "\nLook above all for this: "
LOOK_FOR = (
    "The question below is about something that you cannot see. Somebody who sees it will describe it, but "
    "is not told the question. Say in one short sentence what the description must tell so that the "
    "question can be answered. Do not repeat the question or its options, and do not answer it."
)
REASON = "Answer the question below. You cannot see what it is about; go by this description of it."
THINK_AND_END = 'Think step by step. Then end with a line that begins with "Answer:" and gives '


@method("prism", single=True, requires=("reasoner",))
async def prism(search: Search) -> None:
    """The model describes, the reasoner answers. Without an image there is nothing to describe."""
    await _answer(search, await _describe(search, DESCRIBE) if search.question.images else "")


@method("prism-query", single=True, requires=("reasoner",))
async def prism_query(search: Search) -> None:
    """As prism, but the reasoner first says what to look for.

    As published, that is added to the general instruction.
    """
    question, fmt, description = search.question, search.fmt, ""
    if question.images:
        search.start(INSTRUCTION)
        prompt = Prompt.of(f"{LOOK_FOR}\n\nQuestion:\n{question_text(question)}")
        reply = await search.reply(prompt, model=search.resources.reasoner)
        search.add(reply)
        focus = plain(reply.text, fmt, fmt.final)
        description = await _describe(search, DESCRIBE + ABOVE_ALL + focus if focus else DESCRIBE)
    await _answer(search, description)


async def _describe(search: Search, instruction: str) -> str:
    stage = description_stage(search.fmt)
    search.start(stage or "caption")
    reply = await search.reply(Prompt.of(instruction, search.question.images))
    description = plain(reply.text, search.fmt, stage)
    keep_as(search, reply, {stage: description})
    return description


async def _answer(search: Search, description: str) -> None:
    """The reasoner answers as requested, or in stages if it was trained on them."""
    stage, question, fmt = thought_stage(search.fmt), search.question, search.fmt
    search.start(stage or "reasoning")
    parts = [f"{REASON}\n\nDescription:\n{description}"] if description else []
    parts += [f"Question:\n{question_text(question)}", f"{THINK_AND_END}{answer_form(question)}."]
    messages = (Message("user", "\n\n".join(parts)),)
    reply = await search.reply(Prompt(messages), model=search.resources.reasoner)
    if in_stages(reply.text, fmt):
        thought = plain(reply.text, fmt, stage) if stage else ""
        answer = parse(reply.text, fmt).conclusion or None
    else:
        thought, answer = read_answer(reply.text)
    await keep_thought(search, reply, thought, answer, messages, search.resources.reasoner)
