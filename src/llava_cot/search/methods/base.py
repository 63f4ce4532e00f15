"""What a method is, and the one step all methods share.

A method is a function that spends model calls on one question. It knows models and judges through
their protocols only, and whatever happens goes through its recorder.
"""

from __future__ import annotations

import random
from typing import Protocol

from llava_cot.core.prompting import question_text
from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Trace
from llava_cot.errors import ModelError
from llava_cot.models.base import Continuation, Model, OnText, Prompt, Sampling
from llava_cot.search.judges.base import Judge
from llava_cot.search.search import OnEvent, Recorder


class Method(Protocol):
    """`sampling.seed` is the seed that is recorded; every draw comes from `rng`. Raises ValueError."""

    async def __call__(
        self,
        question: Question,
        model: Model,
        judge: Judge | None,
        *,
        n: int,
        sampling: Sampling,
        rng: random.Random,
        fmt: StageFormat,
        on_event: OnEvent | None = None,
    ) -> Trace: ...


async def propose(
    record: Recorder, model: Model, n: int, sampling: Sampling, on_text: OnText | None = None
) -> list[Continuation]:
    """Sample `n` ways to go on with what the record has kept."""
    return await go_on(model, record.question, record.text, record.tokens, n, sampling, on_text)


async def go_on(
    model: Model,
    question: Question,
    text: str,
    tokens: tuple[int, ...] | None,
    n: int,
    sampling: Sampling,
    on_text: OnText | None = None,
) -> list[Continuation]:
    """Sample `n` ways to go on with the answer so far: the images, the question, then the kept text."""
    prompt = Prompt.of(question_text(question), question.images, text, tokens)
    return await _samples(model, prompt, n, sampling, on_text)


async def one_sample(
    model: Model, prompt: Prompt, sampling: Sampling, on_text: OnText | None = None
) -> Continuation:
    """The only sample of a prompt of a method's own."""
    [continuation] = await _samples(model, prompt, 1, sampling, on_text)
    return continuation


async def _samples(
    model: Model, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None
) -> list[Continuation]:
    continuations = await model.sample(prompt, n, sampling, on_text)
    if len(continuations) != n:
        raise ModelError(f"the model {model.name} gave {len(continuations)} samples where {n} were asked for")
    return continuations
