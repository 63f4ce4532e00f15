"""A model behind an OpenAI-compatible server: what a call asks of the server, by what that can do."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

from cachetools import LRUCache

from llava_cot.core.stages import StageFormat
from llava_cot.errors import ModelError, ModelFailure, ModelRefusal
from llava_cot.models.background import gather_or_cancel
from llava_cot.models.base import (
    ConstraintKind,
    Continuation,
    OnText,
    Prompt,
    Sampling,
    check_call,
    no_option,
    request_seed,
)
from llava_cot.models.endpoint.capabilities import Capabilities, describe, load, save
from llava_cot.models.endpoint.config import Price, Provider
from llava_cot.models.endpoint.http import ATTEMPTS, HttpClient
from llava_cot.models.endpoint.probe import find_capabilities
from llava_cot.models.endpoint.prompts import (
    PromptFormat,
    constraint_fields,
    encode_images,
    estimate_tokens,
    joined,
    messages,
    option_fields,
)
from llava_cot.models.endpoint.replies import (
    KEEP_STOP,
    PROMPT_LOGPROBS,
    StreamedReply,
    Thinking,
    check_reply,
    continuations,
    scores,
    tail_logprob,
)
from llava_cot.models.endpoint.reply_types import Json, token_count
from llava_cot.models.stage_mark import is_published

_log = logging.getLogger(__name__)
_CHAT = "/chat/completions"
_COUNTED = 1024  # prompts whose length is remembered
# OpenAI and vLLM refuse more stop strings; samples are cut here at those that are left out.
_STOPS = 4
_LISTED = 2  # attempts at the list of models, which is of use only where there is one


class EndpointModel:
    """A model behind one server, as a `llava_cot.models.base.Model`.

    Calls may come from any number of event loops, and share one pool of connections.

    Args:
        provider: The server.
        name: The model's name; None for the provider's, or for the server's only model.
        prices: What models cost, by name.
        fresh: Find out again what the server can do.
        attempts: How often a request is tried.

    Raises:
        ModelError: The server cannot be used.
    """

    def __init__(
        self,
        provider: Provider,
        name: str | None,
        prices: dict[str, Price],
        *,
        fresh: bool = False,
        attempts: int = ATTEMPTS,
    ) -> None:
        self.url = provider.url
        self._provider = provider
        self._lengths: LRUCache[Prompt, int] = LRUCache(_COUNTED)
        self._http = HttpClient(provider, provider.url, attempts)
        self.name, self.capabilities = self._http.loop.open(self._open(name or provider.model, fresh))
        self._model = self.name  # for the server, whatever this one is served as
        self._price = prices.get(self.name)

    async def _open(self, name: str | None, fresh: bool) -> tuple[str, Capabilities]:
        owner = ""
        if name is None:
            hint = "give --model-name, and the address that ends before /chat/completions"
            name, owner = await self._http.only_model("/models", hint)
        known = None if fresh else load(self._provider.saved_as, name)
        if known is None:
            named = {"model": name, **self._provider.template_fields}

            async def send(fields: Json, probed: Collection[str], attempts: int | None) -> Json:
                return await self._http.post(
                    _CHAT, named | fields, 100, needs="choices",
                    check=check_reply, probed=probed, attempts=attempts,
                )  # fmt: skip

            known, certain = await find_capabilities(send, owner or await self._owner(name))
            if certain:
                save(self._provider.saved_as, name, known)
        if self._provider.prefix is not None:
            known = replace(known, prefix=self._provider.prefix)
        if self._provider.option_fields is not None:
            known = replace(known, option_fields=self._provider.option_fields)
        if known.left_out:
            _log.warning(
                "%s at %s refuses %s in its requests: left out, so the model's own setting applies",
                name, self.url, " and ".join(known.left_out),
            )  # fmt: skip
        return name, known

    async def _owner(self, name: str) -> str:
        """Who serves the model, if the server lists it; some keys may use a model and not list it."""
        try:
            models = await self._http.models("/models", _LISTED)
        except ModelError:
            return ""
        return next((str(one.get("owned_by", "")) for one in models if one["id"] == name), "")

    @property
    def constraints(self) -> tuple[ConstraintKind, ...]:
        return self.capabilities.constraints

    @property
    def sampling_options(self) -> tuple[str, ...]:
        return self.capabilities.sampling_options

    @property
    def logprobs(self) -> bool:
        return self.capabilities.logprobs

    @property
    def scores_texts(self) -> bool:
        return self.capabilities.scores_texts

    @property
    def ignored_sampling(self) -> tuple[str, ...]:
        return self.capabilities.ignored_sampling

    @property
    def continues_prefix(self) -> bool:
        return self.capabilities.continues_prefix

    @property
    def continues_thinking(self) -> bool:
        return self.capabilities.continues_thinking

    def thinks(self, fmt: StageFormat) -> bool | None:
        return self.capabilities.thinking != "none" or None

    def writes_stages(self, fmt: StageFormat) -> bool | None:
        found = self.capabilities.writes_stages(fmt)
        return (is_published(self._model) or None) if found is None else found

    def remember_stages(self, fmt: StageFormat, trained: bool) -> None:
        """Save whether the model writes these stages by itself, with what the server can do."""
        stages = self.capabilities.stages | {" ".join(fmt.opening_tags): trained}
        self.capabilities = replace(self.capabilities, stages=stages)
        known = load(self._provider.saved_as, self._model)
        if known is not None:  # without the settings of endpoints.yaml
            save(self._provider.saved_as, self._model, replace(known, stages=known.stages | stages))

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        check_call(self, f"{self.name} at {self.url}", n, sampling)
        return await self._http.loop.run_streaming(
            lambda stream: self._sample(prompt, n, sampling, stream), on_text
        )

    async def _sample(
        self, prompt: Prompt, n: int, sampling: Sampling, stream: OnText | None
    ) -> list[Continuation]:
        body = await self._body(prompt, sampling)
        # Several greedy samples in one request are refused by vLLM.
        greedy = sampling.temperature == 0 and "temperature" in self.capabilities.randomness
        if stream is None and (n == 1 or (self.capabilities.many and not greedy)):
            return await self._request(prompt, sampling, body, 0, n)
        parts = [self._request(prompt, sampling, body, i, 1) for i in range(1 if stream else 0, n)]
        if stream is not None:
            parts.insert(0, self._streamed(prompt, sampling, body, stream))
        return [sample for samples in await gather_or_cancel(parts) for sample in samples]

    async def _body(self, prompt: Prompt, sampling: Sampling) -> Json:
        side = self._provider.image_side
        await encode_images(prompt, side)
        turns, extra = messages(prompt, self._way(prompt), sampling.stop, side)
        body: Json = {"model": self._model, "messages": turns, **self._provider.template_fields, **extra}
        body[self.capabilities.limit] = sampling.max_tokens
        if "temperature" in self.capabilities.randomness:
            body["temperature"] = sampling.temperature
        if "top_p" in self.capabilities.randomness and sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        body |= option_fields(sampling, self.capabilities.option_fields)
        if sampling.stop and self.capabilities.stops:
            body |= {"stop": list(sampling.stop[:_STOPS]), **KEEP_STOP}
        if self.capabilities.top_logprobs:
            body["logprobs"] = True
        if sampling.constraint is not None:
            body |= constraint_fields(sampling.constraint, self.capabilities.json_schema)
        return body

    def _way(self, prompt: Prompt) -> PromptFormat:
        found = self.capabilities
        return found.prefix if prompt.thinking is None else found.thinking_prefix

    async def _request(
        self, prompt: Prompt, sampling: Sampling, body: Json, number: int, n: int
    ) -> list[Continuation]:
        """Samples `number` and on, in one request."""
        body = body | self._seed(sampling.seed, sampling.first + number) | ({"n": n} if n > 1 else {})
        tokens = estimate_tokens(prompt, n * sampling.max_tokens)
        reply = await self._http.post(_CHAT, body, tokens, needs="choices", check=partial(self._check, n))
        return self._read(reply, prompt, sampling)

    async def _streamed(
        self, prompt: Prompt, sampling: Sampling, body: Json, stream: OnText
    ) -> list[Continuation]:
        """Sample 0, streamed as it arrives, or sent at its end where it may repeat the prefix."""
        if prompt.prefix and self._way(prompt) == "none":
            samples = await self._request(prompt, sampling, body, 0, 1)
            for sample in samples:
                stream(sample.text)
            return samples
        body = body | self._seed(sampling.seed, sampling.first)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        thinking = Thinking.of(prompt, self.capabilities.thinking)
        reply = StreamedReply(sampling.stop, stream, self._http.secret, thinking)
        tokens = estimate_tokens(prompt, sampling.max_tokens)
        await self._http.stream(_CHAT, body, tokens, reply.restart, lambda: self._check(1, reply.reply))
        [sample] = self._read(reply.reply, prompt, sampling)
        if not reply.send(sample.text):
            raise ModelFailure(
                f"the connection to {self.url} broke in the middle of an answer, and the second attempt gave "
                "a different one; ask again"
            )
        return [sample]

    def _check(self, n: int, reply: Json) -> None:
        """`check_reply`, whose refusals name the model."""
        try:
            check_reply(reply, n)
        except ModelRefusal as refusal:
            words = self._http.secret.hide(str(refusal))
            raise ModelRefusal(f"{self.name} at {self.url} {words}") from None

    def _read(self, reply: Json, prompt: Prompt, sampling: Sampling) -> list[Continuation]:
        return continuations(
            reply,
            sampling.stop,
            self.price,
            lambda text: joined(prompt.prefix, text, self._way(prompt)),
            self._http.secret.hide,
            Thinking.of(prompt, self.capabilities.thinking),
        )

    def _seed(self, seed: int, number: int) -> Json:
        """The seed of sample `number`, in the 31 bits that every server takes."""
        return {"seed": request_seed(seed, number)} if self.capabilities.seed else {}

    async def choose(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        if not options or not all(option.strip() for option in options):
            raise no_option()
        if len(options) == 1 and self.scores_texts:
            return [await self._http.loop.run(self._score(prompt, options[0]))]
        if not self.capabilities.top_logprobs:
            raise self._no_logprobs()
        return await self._http.loop.run(self._choose(prompt, options))

    async def _choose(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        limit = self.capabilities.choice_tokens
        body = await self._body(prompt, Sampling(temperature=0.0, top_p=1.0, max_tokens=limit))
        body["top_logprobs"] = self.capabilities.top_logprobs
        tokens = estimate_tokens(prompt, limit)
        reply = await self._http.post(_CHAT, body, tokens, needs="choices", check=partial(self._check, 1))
        found = scores(reply, options)
        if found is None:
            raise self._no_logprobs()
        self._lengths[prompt] = token_count(reply, "prompt_tokens") or 0
        missing = [i for i, score in enumerate(found) if math.isinf(score)] if self.scores_texts else []
        values = await gather_or_cancel(self._score(prompt, options[i]) for i in missing)
        filled = dict(zip(missing, values, strict=True))
        return [filled.get(i, score) for i, score in enumerate(found)]

    async def _score(self, prompt: Prompt, text: str) -> float:
        """The log-probability of a text of any length, read as a part of the prompt."""
        begun = self._lengths.get(prompt)
        if not begun:
            begun = token_count(await self._completed(prompt, {}), "prompt_tokens") or 0
            self._lengths[prompt] = begun
        whole = replace(prompt, prefix=prompt.prefix + text, prefix_tokens=None)
        reply = await self._completed(whole, PROMPT_LOGPROBS)
        found = tail_logprob(reply, begun)
        if found is None:
            raise ModelFailure(f"{self.url} gave no log-probabilities of a text that it read; ask again")
        self._lengths[whole] = token_count(reply, "prompt_tokens") or 0
        return found

    async def _completed(self, prompt: Prompt, fields: Json) -> Json:
        """The reply that goes on with a prompt by one token."""
        body = await self._body(prompt, Sampling(temperature=0.0, top_p=1.0, max_tokens=1)) | fields
        return await self._http.post(
            _CHAT, body, estimate_tokens(prompt, 1), needs="choices", check=partial(self._check, 1)
        )

    def _no_logprobs(self) -> ModelError:
        return ModelError(
            f"{self.url} gives no log-probabilities for {self.name}, so options cannot be scored there "
            "(the judge logits); choose the judge self"
        )

    def count_tokens(self, prompt: Prompt) -> int:
        """The length that the server reported for a prompt of `choose`; 0 for any other."""
        return self._lengths.get(prompt) or 0

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        return None if self._price is None else self._price.of(prompt_tokens, completion_tokens)

    def describe(self) -> str:
        """The server, its model and what they can do, one line each."""
        lines = {"server": self.url, "model": self.name, **describe(self.capabilities)}
        if self._price is not None:
            lines["price"] = f"${self._price.input:g} read, ${self._price.output:g} written, a million tokens"
        return "\n".join(f"{name:18} {words}" for name, words in lines.items())

    def close(self) -> None:
        """Close all connections; what is running fails. The model cannot be used again."""
        self._http.loop.close()
