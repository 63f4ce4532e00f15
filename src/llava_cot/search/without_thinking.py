"""A model that thinks before it answers, used without its thinking: by judges, and for prompted stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llava_cot.core.stages import THINKING, Stage, StageFormat
from llava_cot.models.base import (
    Continuation,
    Model,
    OnText,
    Prompt,
    Sampling,
    continues_thinking,
    thinks,
    writes_stages,
)


class _Answering:
    """A model that goes on after an empty thought."""

    def __init__(self, model: Model, thought: Stage) -> None:
        self._model = model
        self._tags = (thought.open, thought.close)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        return await self._model.sample(self._after(prompt), n, sampling, on_text)

    async def choose(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        return await self._model.choose(self._after(prompt), options)

    def _after(self, prompt: Prompt) -> Prompt:
        text = f"\n{self._tags[1]}\n\n{prompt.prefix}"
        return replace(prompt, prefix=text, prefix_tokens=None, thinking=self._tags)


def without_thinking(model: Any, fmt: StageFormat) -> Any:
    """The model for a verdict or a prompted stage, whose tokens it would spend on thinking.

    A model that was trained on the stages, or does not go on inside its thinking, stays as it is.
    """
    thought = fmt if fmt.thinking else THINKING
    able = (
        thinks(model, thought)
        and continues_thinking(model)
        and (fmt.thinking or not writes_stages(model, fmt))
    )
    return _Answering(model, thought.stages[0]) if able else model
