"""Prism: one model sees, another one reasons (Qiao et al., arXiv 2406.14544).

The model describes the picture, by an instruction that is always the same or, in `prism-query`, has what the
reasoner wants to know for the question. The reasoner answers from the description and the question; it is
never shown a picture, and may be a model of text alone. The words of the prompts are our own.
"""

from __future__ import annotations

import random
from dataclasses import replace

from llava_cot.core.prompting import question_text
from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat, parse
from llava_cot.core.trace import Trace
from llava_cot.models.base import Continuation, Message, Model, Prompt, Sampling
from llava_cot.search.judges.base import Judge
from llava_cot.search.methods.base import one_sample
from llava_cot.search.restaging import (
    brief,
    description_stage,
    in_stages,
    keep_as,
    keep_thought,
    plain,
    read_answer,
    thought_stage,
)
from llava_cot.search.search import OnEvent, Recorder

INSTRUCTION = "instruction"  # what the round is called in which the reasoner says what to look for

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


async def prism(
    question: Question,
    model: Model,
    judge: Judge | None,
    *,
    n: int,
    sampling: Sampling,
    rng: random.Random,
    fmt: StageFormat,
    reasoner: Model,
    on_event: OnEvent | None = None,
) -> Trace:
    """The model describes, the reasoner answers. Without a picture there is nothing to describe."""
    record = Recorder("prism", question, model, None, n, sampling, fmt, on_event, reasoner=reasoner)
    description = await _describe(record, model, DESCRIBE, sampling, rng) if question.images else ""
    return await _answer(record, reasoner, description, sampling, rng)


async def prism_query(
    question: Question,
    model: Model,
    judge: Judge | None,
    *,
    n: int,
    sampling: Sampling,
    rng: random.Random,
    fmt: StageFormat,
    reasoner: Model,
    on_event: OnEvent | None = None,
) -> Trace:
    """The reasoner first says what to look for; as published, that is added to the general instruction."""
    record = Recorder("prism-query", question, model, None, n, sampling, fmt, on_event, reasoner=reasoner)
    description = ""
    if question.images:
        record.start(INSTRUCTION)
        asked = Prompt.of(f"{LOOK_FOR}\n\nQuestion:\n{question_text(question)}")
        reply = await _sample(reasoner, asked, sampling, rng)
        record.add(reply)
        wanted = plain(reply.text, fmt, fmt.final)
        instruction = DESCRIBE + ABOVE_ALL + wanted if wanted else DESCRIBE
        description = await _describe(record, model, instruction, sampling, rng)
    return await _answer(record, reasoner, description, sampling, rng)


async def _describe(
    record: Recorder, model: Model, instruction: str, sampling: Sampling, rng: random.Random
) -> str:
    stage = description_stage(record.fmt)
    record.start(stage or "caption")
    reply = await _sample(model, Prompt.of(instruction, record.question.images), sampling, rng)
    description = plain(reply.text, record.fmt, stage)
    keep_as(record, reply, {stage: description})
    return description


async def _answer(
    record: Recorder, reasoner: Model, description: str, sampling: Sampling, rng: random.Random
) -> Trace:
    """The reasoner answers as it is asked to, or in stages, if it was trained on them."""
    stage, question = thought_stage(record.fmt), record.question
    record.start(stage or "reasoning")
    parts = [f"{REASON}\n\nDescription:\n{description}"] if description else []
    parts += [f"Question:\n{question_text(question)}", f"{THINK_AND_END}{brief(question)}."]
    messages = (Message("user", "\n\n".join(parts)),)
    reply = await _sample(reasoner, Prompt(messages), sampling, rng)
    if in_stages(reply.text, record.fmt):
        thought = plain(reply.text, record.fmt, stage) if stage else ""
        answer = parse(reply.text, record.fmt).conclusion or None
    else:
        thought, answer = read_answer(reply.text)
    await keep_thought(record, reply, thought, answer, reasoner, messages, sampling, rng)
    return record.finish()


async def _sample(model: Model, prompt: Prompt, sampling: Sampling, rng: random.Random) -> Continuation:
    return await one_sample(model, prompt, replace(sampling, seed=rng.getrandbits(63)))
