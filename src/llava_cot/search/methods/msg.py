"""Multimodal structured generation (MSG, arXiv 2406.11403): the stages are forced as the model writes.

A frozen model is held to a form whose fields come in the order of the reasoning, so that it reasons before it
answers. Nothing is searched: one sample.
"""

from __future__ import annotations

import random
from dataclasses import replace

from llava_cot.core.prompting import question_text
from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Trace
from llava_cot.errors import ModelError
from llava_cot.models.base import Model, Prompt, Sampling, constraints_of
from llava_cot.search.judges.base import Judge
from llava_cot.search.methods.base import go_on, one_sample
from llava_cot.search.search import OnEvent, Recorder
from llava_cot.search.stage_forms import stage_grammar, stage_schema, staged

# Most servers hold a model to a schema without showing it.
_AS_JSON = "Answer in JSON, with the fields {}, in this order."


async def msg(
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
    """Sample one whole answer of at most `sampling.max_tokens`, every stage of the format in order.

    A model that can be held to a grammar writes the tags themselves, and is asked the question as it is. One
    that can be held to a JSON schema alone is told so, and its reply is put into the tags; its tokens are
    given up. With options, the final stage is one of them or its letter. Raises ModelError for other models.
    """
    kinds = constraints_of(model)
    if not kinds:
        raise ModelError(
            f"the method msg forces the stages, and {model.name} cannot be constrained as it writes; "
            "choose another method or model"
        )
    in_tags = "grammar" in kinds
    constraint = (stage_grammar if in_tags else stage_schema)(fmt, question.options)
    settings = replace(sampling, seed=rng.getrandbits(63), constraint=constraint)
    record = Recorder("msg", question, model, None, n, sampling, fmt, on_event)
    record.start("answer")
    if in_tags:
        [continuation] = await go_on(model, question, "", None, 1, settings, record.delta)
    else:
        fields = _AS_JSON.format(", ".join(fmt.names))
        prompt = Prompt.of(f"{question_text(question)}\n\n{fields}", question.images)
        continuation = await one_sample(model, prompt, settings)
        continuation = replace(continuation, text=staged(continuation.text, fmt), tokens=())
    record.keep(record.add(continuation))
    return record.finish()
