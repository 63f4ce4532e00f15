"""A model that plays a script, for tests and tours without weights.

It simulates what a real model does at its edges: stop strings, token limits, ids, seeds, streaming. Tokens
are words, each with the white space before it.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from llava_cot.core.stages import StageFormat
from llava_cot.errors import ModelError
from llava_cot.models.base import (
    OPTIONAL_SAMPLING,
    ConstraintKind,
    Continuation,
    Finish,
    OnText,
    Prompt,
    Sampling,
    check_call,
)

# The text after the prompt's prefix, up to the model's own end. The generator depends on the sample's seed
# and number alone.
Script = Callable[[Prompt, random.Random], str]
Choose = Callable[[Prompt, Sequence[str]], list[float]]

_WORD = re.compile(r"\s*\S+|\s+")


@dataclass(frozen=True)
class ScriptedCall:
    """The arguments of one call of `sample`."""

    prompt: Prompt
    n: int
    sampling: Sampling


class ScriptedModel:
    """A model that plays a script.

    Args:
        script: A function of the prompt and the sample's random generator that returns all that the model
            generates after the prompt's prefix. Or whole answers by the text of the last message: each sample
            is one that begins with the prefix, and if none does, the model ends at once.
        choose: Scores options; by default all alike.
        ids: Without them, samples have no token ids and no log-probabilities, as from many servers.
        constraints: The kinds of constraint that it accepts, and leaves to the script.
        sampling_options: The sampling options that it accepts, and leaves to the script.
        staged: Whether it says that it writes stages by itself.
        continues_prefix: Whether it says that it continues a prefix.
        thinks: Whether it says that it thinks before it answers.

    Attributes:
        calls: Every call of `sample`.
        choices: Prompt and options of every call of `choose`.
    """

    name = "scripted"

    def __init__(
        self,
        script: Script | Mapping[str, Sequence[str]],
        choose: Choose | None = None,
        ids: bool = True,
        constraints: tuple[ConstraintKind, ...] = ("grammar", "json"),
        sampling_options: tuple[str, ...] = OPTIONAL_SAMPLING,
        staged: bool = True,
        continues_prefix: bool = True,
        thinks: bool = False,
    ) -> None:
        self.constraints = constraints
        self.sampling_options = sampling_options
        self.calls: list[ScriptedCall] = []
        self.choices: list[tuple[Prompt, tuple[str, ...]]] = []
        self._script = script if callable(script) else _from_table(script)
        self._choose = choose or (lambda prompt, options: [0.0] * len(options))
        self._ids = ids
        self._staged = staged
        self.continues_prefix = continues_prefix
        self._thinks = thinks
        self._vocabulary: dict[str, int] = {}

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        check_call(self, self.name, n, sampling)
        self.calls.append(ScriptedCall(prompt, n, sampling))
        if prompt.prefix_tokens is not None and self.decode(prompt.prefix_tokens) != prompt.prefix:
            raise ModelError(f"the prompt's token ids are not those of its prefix {prompt.prefix!r}")
        await asyncio.sleep(0)
        return [self._continue(prompt, i, sampling, None if i else on_text) for i in range(n)]

    async def choose(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        self.choices.append((prompt, tuple(options)))
        await asyncio.sleep(0)
        return self._choose(prompt, options)

    def count_tokens(self, prompt: Prompt) -> int:
        """Words of the messages and the prefix, and one token an image."""
        texts = [*(message.text for message in prompt.messages), prompt.prefix]
        images = sum(len(message.images) for message in prompt.messages)
        return sum(len(_WORD.findall(text)) for text in texts) + images

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        return None

    def writes_stages(self, fmt: StageFormat) -> bool:
        """Whether the script writes the stages by itself, of whatever format."""
        return self._staged

    def thinks(self, fmt: StageFormat) -> bool:
        """Whether the script writes its thinking first."""
        return self._thinks

    def decode(self, tokens: Sequence[int]) -> str:
        words = list(self._vocabulary)
        return "".join(words[token] for token in tokens)

    def _continue(self, prompt: Prompt, i: int, sampling: Sampling, on_text: OnText | None) -> Continuation:
        whole = self._script(prompt, random.Random(f"{sampling.seed}/{sampling.first + i}"))
        text, finish = _cut(whole, sampling)
        words = _WORD.findall(text)
        if on_text is not None:
            for word in words:
                on_text(word)
        ids = tuple(self._vocabulary.setdefault(word, len(self._vocabulary)) for word in words)
        return Continuation(
            text=text,
            tokens=ids if self._ids else (),
            logprob=-float(len(text)) if self._ids else None,
            finish=finish,
            prompt_tokens=self.count_tokens(prompt),
            completion_tokens=len(words) + (finish == "eos"),
        )


def _cut(whole: str, sampling: Sampling) -> tuple[str, Finish]:
    """The text up to the first stop string, or up to the limit of words, and why it ends."""
    words = _WORD.findall(whole)
    text = "".join(words[: sampling.max_tokens])
    ends = [text.index(stop) + len(stop) for stop in sampling.stop if stop in text]
    if ends:
        return text[: min(ends)].rstrip(), "stop"
    return text, "length" if len(words) >= sampling.max_tokens else "eos"


def _from_table(table: Mapping[str, Sequence[str]]) -> Script:
    def script(prompt: Prompt, rng: random.Random) -> str:
        question = prompt.messages[-1].text
        if question not in table:
            raise ModelError(f"the script has no answer to {question!r}")
        fitting = [answer for answer in table[question] if answer.startswith(prompt.prefix)]
        return rng.choice(fitting)[len(prompt.prefix) :] if fitting else ""

    return script
