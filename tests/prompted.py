"""Running methods that work by prompt alone, on models that say what they are told to."""

from typing import Any

from playing import QUESTION, run_method

from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT, StageFormat
from llava_cot.core.trace import Trace
from llava_cot.models.base import Message, Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel

SAMPLING = Sampling(temperature=0.6, top_p=0.9, max_tokens=99, seed=5)


def says(*replies: str, name: str = "scripted") -> ScriptedModel:
    """A model whose replies are these, in turn; one more call fails the test."""
    left = list(replies)
    model = ScriptedModel(lambda prompt, rng: left.pop(0))
    model.name = name
    return model


async def run(
    method: str,
    model: ScriptedModel,
    question: Question = QUESTION,
    fmt: StageFormat = LLAVA_COT,
    n: int = 1,
    sampling: Sampling = SAMPLING,
    **more: Any,
) -> Trace:
    return await run_method(method, model, question=question, fmt=fmt, n=n, sampling=sampling, **more)


def seen(model: ScriptedModel) -> list[tuple[Message, ...]]:
    """The messages of each call."""
    assert all(call.n == 1 and call.prompt.prefix == "" for call in model.calls)
    return [call.prompt.messages for call in model.calls]


def words(prompt: Prompt) -> str:
    return "\n".join(message.text for message in prompt.messages)
