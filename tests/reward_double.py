"""A server with a reward model behind it, as vLLM has it, for tests of what speaks to such servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection
from typing import Any

from endpoint_double import Double, _error, _send

from llava_cot.models.scripted import ScriptedModel


class RewardDouble(Double):
    """`worth` is the reward of an answer to a question. `ways` are the paths that there are.

    Without `pictures`, messages with one are refused. `labels` is how many numbers an answer gets,
    `tokens` whether of each of its tokens (of the last one, the reward). With `mark`, a text that ends each
    step, a step gets two numbers (wrong, right), as vLLM's step pooler gives them; `worth` is of the step.
    """

    def __init__(
        self,
        worth: Callable[[str, str], float],
        *,
        ways: Collection[str] = ("/classify", "/pooling", "/score", "/v1/score"),
        pictures: bool = True,
        labels: int = 1,
        tokens: bool = False,
        mark: str | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(ScriptedModel({}), key=key, models=("judge",))
        self.worth, self.ways, self.pictures, self.labels, self.tokens = worth, ways, pictures, labels, tokens
        self.paths: list[str] = []
        self.mark = mark

    async def _answer(
        self,
        path: str,
        headers: dict[str, str],
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if path not in self.ways or (self.key and headers.get("authorization") != f"Bearer {self.key}"):
            return await super()._answer(path, headers, body, reader, writer)
        fields = json.loads(body)
        self.bodies.append(fields)
        self.paths.append(path)
        if self.faults:
            return await _send(writer, int(self.faults.popleft()), _error("made to fail"))
        kind = path.removeprefix("/v1")
        if ("text_1" in fields) != (kind == "/score") or fields["use_activation"] is not False:
            return await _send(writer, 422, {"detail": "not a request of this path"})
        if "image_url" in json.dumps(fields) and not self.pictures:
            return await _send(writer, 400, _error("judge is not a multimodal model"))
        if kind == "/score":
            question, answer = _text(fields["text_1"]), fields["text_2"]
        else:
            *turns, last = fields["messages"]
            assert last["role"] == "assistant" and not fields.get("continue_final_message")
            question, answer = "".join(map(_text, turns)), last["content"]
        numbers = [self.worth(question, answer), *[0.0] * (self.labels - 1)]
        result: dict[str, Any] = {
            "/classify": {"label": None, "probs": numbers, "num_classes": len(numbers)},
            "/pooling": {"data": [[9.0], numbers] if self.tokens else numbers},
            "/score": {"score": numbers[0]},
        }[kind]
        if self.mark is not None:
            steps = answer.split(self.mark)[:-1]
            result = {"data": [[0.0, self.worth(question, step)] for step in steps]}
        count = len(question.split()) + len(answer.split())
        usage = {"prompt_tokens": count, "total_tokens": count}
        await _send(writer, 200, {"object": "list", "data": [{"index": 0, **result}], "usage": usage})


def _text(turn: Any) -> str:
    """The words of a turn, or of one side of a pair."""
    content = turn if isinstance(turn, str) else turn["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")
