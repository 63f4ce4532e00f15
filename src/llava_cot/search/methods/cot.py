"""Chain of thought by prompt alone, for models that were never taught stages.

Zero-shot (Kojima et al., arXiv 2205.11916): the question with "Let's think step by step", then a second call
that extracts the answer. Few-shot (Wei et al., arXiv 2201.11903): worked examples before the question, whose
way of ending the model takes over.
"""

from __future__ import annotations

import random
from dataclasses import replace

from llava_cot.core.prompting import question_text
from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat, parse
from llava_cot.core.trace import Trace
from llava_cot.models.base import Message, Model, Prompt, Sampling
from llava_cot.search.extras import Example
from llava_cot.search.judges.base import Judge
from llava_cot.search.methods.base import one_sample
from llava_cot.search.restaging import ask_answer, in_stages, keep_thought, read_answer, thought_stage
from llava_cot.search.search import OnEvent, Recorder

THINK = "Let's think step by step."  # the trigger that did best in arXiv 2205.11916, table 4


async def cot(
    question: Question,
    model: Model,
    judge: Judge | None,
    *,
    n: int,
    sampling: Sampling,
    rng: random.Random,
    fmt: StageFormat,
    on_event: OnEvent | None = None,
) -> Trace:
    """Two calls: a thought, then its answer; only one where the model answers in stages by itself."""
    record = Recorder("cot", question, model, None, n, sampling, fmt, on_event)
    asked = Message("user", f"{question_text(question)}\n\n{THINK}", question.images)
    return await _think(record, model, (asked,), sampling, rng, reads=False)


async def cot_few_shot(
    question: Question,
    model: Model,
    judge: Judge | None,
    *,
    n: int,
    sampling: Sampling,
    rng: random.Random,
    fmt: StageFormat,
    examples: tuple[Example, ...],
    on_event: OnEvent | None = None,
) -> Trace:
    """One call, where the reply ends with its answer as `read_answer` reads it; else a second one asks."""
    record = Recorder("cot-few-shot", question, model, None, n, sampling, fmt, on_event)
    shown = tuple(message for example in examples for message in _turns(example))
    asked = Message("user", question_text(question), question.images)
    return await _think(record, model, (*shown, asked), sampling, rng, reads=True)


def _turns(example: Example) -> tuple[Message, Message]:
    asked = Message("user", question_text(example.question), example.question.images)
    return asked, Message("assistant", example.answer)


async def _think(
    record: Recorder,
    model: Model,
    messages: tuple[Message, ...],
    sampling: Sampling,
    rng: random.Random,
    *,
    reads: bool,
) -> Trace:
    record.start(thought_stage(record.fmt) or "reasoning")
    reply = await one_sample(model, Prompt(messages), replace(sampling, seed=rng.getrandbits(63)))
    if not in_stages(reply.text, record.fmt):
        thought, answer = read_answer(reply.text) if reads else (reply.text, None)
        await keep_thought(record, reply, thought, answer, model, messages, sampling, rng)
        return record.finish()
    record.keep(record.add(reply))
    if not parse(reply.text, record.fmt).conclusion:
        await ask_answer(record, model, messages, reply.text, sampling, rng)
    return record.finish()
