"""The stages asked for by prompt alone: what fine-tuning on them has to beat.

The comparison of arXiv 2411.10440, version 6, table 7, in words of our own.
"""

from __future__ import annotations

import random
from dataclasses import replace

from llava_cot.core.prompting import question_text
from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Trace
from llava_cot.models.base import Model, Prompt, Sampling
from llava_cot.search.judges.base import Judge
from llava_cot.search.methods.base import one_sample
from llava_cot.search.restaging import brief
from llava_cot.search.search import OnEvent, Recorder

# What the paper's stages are for (section 3.1). Any other is told by its name and place.
_KNOWN = {
    "summary": "how you will approach the question; nothing of the answer yet",
    "caption": "what the picture shows that matters to the question",
    "reasoning": "step by step, from what was said before, what leads to the answer",
}


async def staged_prompt(
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
    """One call, streamed: the instruction, then the question. The reply is read as any other."""
    record = Recorder("staged-prompt", question, model, None, n, sampling, fmt, on_event)
    record.start("answer")
    text = f"{instruction(question, fmt)}\n\nQuestion:\n{question_text(question)}"
    prompt = Prompt.of(text, question.images)
    settings = replace(sampling, seed=rng.getrandbits(63))
    record.keep(record.add(await one_sample(model, prompt, settings, on_text=record.delta)))
    return record.finish()


def instruction(question: Question, fmt: StageFormat) -> str:
    """How a model is told of the format's stages, in their order."""
    parts = (f"{s.open} {_purpose(i, question, fmt)} {s.close}" for i, s in enumerate(fmt.stages))
    return "\n".join(
        (
            "Answer the question at the end in these parts, in this order. Write each between its tags, as "
            "they stand here, and nothing outside of them. What belongs between the tags is said there.",
            *parts,
        )
    )


def _purpose(i: int, question: Question, fmt: StageFormat) -> str:
    name = fmt.names[i]
    if name == fmt.final:
        return brief(question) if name == "conclusion" else f'the part called "{name}": {brief(question)}'
    place = f'follows the part called "{fmt.names[i - 1]}"' if i else "comes first"
    return _KNOWN.get(name) or f'the part called "{name}", which {place}'
