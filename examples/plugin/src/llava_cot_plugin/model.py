"""`logged:MODEL` is any other model, of which each prompt and reply is also written to a file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from llava_cot import Prompt, Sampling, StageFormat, open_model
from llava_cot.models.base import Continuation, OnText, constraints_of, sampling_options_of, writes_stages
from llava_cot.models.registry import OpenedModel


def open_logged(spec: str, **options: Any) -> LoggedModel:
    """Open the model after the colon, with the options of `open_model`."""
    file = os.environ.get("LLAVA_COT_LOG", "llava-cot-log.jsonl")
    return LoggedModel(open_model(spec, **options), file)


class LoggedModel:
    """Adds a line of JSON to a file for each call. Everything else is up to the model."""

    def __init__(self, model: OpenedModel, file: str) -> None:
        self.name = model.name
        self.sampling_options, self.constraints = sampling_options_of(model), constraints_of(model)
        self.count_tokens, self.price, self.close = model.count_tokens, model.price, model.close
        self._model, self._file = model, file

    def writes_stages(self, fmt: StageFormat) -> bool | None:
        return writes_stages(self._model, fmt)

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        replies = await self._model.sample(prompt, n, sampling, on_text)
        self._write(prompt, {"seed": sampling.seed, "replies": [reply.text for reply in replies]})
        return replies

    async def choose(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        logprobs = await self._model.choose(prompt, options)
        self._write(prompt, {"options": list(options), "logprobs": logprobs})
        return logprobs

    def _write(self, prompt: Prompt, result: dict[str, Any]) -> None:
        messages = [{"role": message.role, "text": message.text} for message in prompt.messages]
        line = {"messages": messages, "prefix": prompt.prefix, **result}
        with open(self._file, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
