"""Finding out by short requests what a server can do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress

from llava_cot.core.stages import THINKING
from llava_cot.errors import ModelError, ModelFailure, ModelRefusal, ModelUnavailable, ServerRefusal
from llava_cot.models.base import Constraint, Prompt
from llava_cot.models.endpoint.capabilities import ANY_FORMAT, Capabilities
from llava_cot.models.endpoint.prompts import (
    OPTION_FIELDS,
    PromptFormat,
    SchemaField,
    ThinkingForm,
    constraint_fields,
    messages,
)
from llava_cot.models.endpoint.replies import (
    KEEP_STOP,
    PROMPT_LOGPROBS,
    Thinking,
    named_stop,
    tail_logprob,
    text_of,
    thought_of,
)
from llava_cot.models.endpoint.reply_types import Json

# Sends the fields of a chat completion and returns the reply, which has choices. The second argument names
# the fields that are tried out, the third is how often it is tried (None: as often as any other request).
# Raises ModelError.
Send = Callable[[Json, Collection[str], int | None], Awaitable[Json]]

# A line that is easy to copy and that no model would continue by chance.
_BEGUN, _REST = "amber birch cedar", "delta ember fern"
_LINE = Prompt.of(f"Copy this line and write nothing else: {_BEGUN} {_REST}")
_BEGUN_LINE = Prompt(_LINE.messages, _BEGUN)
_TAGS = THINKING.pairs[0]
_BEGUN_THOUGHT = Prompt(_LINE.messages, f"The line is: {_BEGUN}", thinking=_TAGS)
_STOP = "ember"
_TOKENS = 16
_REASONING_TOKENS = 2048  # where the model reasons before it writes the line
_ATTEMPTS = 4  # at a request whose failure only means that something is not used
# Refusals of the key and of its quota: nothing is found out from them.
_NOT_THE_FIELDS = (401, 402, 429)
_RANDOMNESS = {"temperature": 0.7, "top_p": 0.9}  # neither is the default of any server
# Tokens in which the choice among options must appear: some tokenizers put white space before it.
_CHOICE_TOKENS = 3
# Servers are recognized by `owned_by` in /v1/models; what they do does not depend on the model's skill.
_FORMATS: dict[str, PromptFormat] = {"vllm": "continue", "sglang": "continue", "llamacpp": "trailing"}
_OURS = "llava-cot"
_NAME_THE_STOP = ("vllm", "sglang")
_OPTIONS: dict[str, tuple[str, ...]] = {
    "vllm": tuple(names[0] for names in OPTION_FIELDS.values()),
    "sglang": tuple(names[0] for names in OPTION_FIELDS.values()),
    "llamacpp": tuple(names[-1] for names in OPTION_FIELDS.values()),
}
_TRIED = 1  # a valid value of each option
# A schema that no reply has by chance: the line's first word, as the value of a field.
_SCHEMA = Constraint(
    "json",
    '{"type": "object", "properties": {"tree": {"type": "string", "enum": ["amber"]}}, '
    '"required": ["tree"], "additionalProperties": false}',
)
_SCHEMA_TOKENS = 64


async def find_capabilities(send: Send, owner: str) -> tuple[Capabilities, bool]:
    """Find out everything by short requests.

    Only the first, a plain question, must be answered: what fails in another one counts as something that the
    server cannot do.

    Args:
        send: Sends a request.
        owner: Who serves the model, if known.

    Returns:
        The capabilities, and whether they are certain: no request was left without an answer.

    Raises:
        ModelError: A plain question is not answered.
    """
    base, limit, reply = await _base(send)
    probe = _Probe(send, owner, base, limit)
    thinking = _thinking_form(reply)
    randomness = await probe.randomness()
    thinking_prefix = await probe.thinking_prefix(thinking)
    prefix, many, stops, (top, choice_tokens), schema, options = await asyncio.gather(
        probe.prefix(),
        probe.many(),
        probe.stops(),
        probe.top_logprobs(),
        probe.json_schema(),
        probe.option_fields(),
    )
    prompt_logprobs = await probe.prompt_logprobs(prefix)
    found = Capabilities(
        prefix=prefix,
        thinking=thinking,
        thinking_prefix=thinking_prefix,
        many=many,
        stops=stops,
        top_logprobs=top,
        choice_tokens=choice_tokens,
        prompt_logprobs=prompt_logprobs,
        seed="seed" in probe.base,
        limit=probe.limit,
        json_schema=schema,
        option_fields=options,
        randomness=randomness,
        stages={ANY_FORMAT: True} if owner == _OURS else {},
    )
    return found, probe.certain


async def _base(send: Send) -> tuple[Json, str, Json]:
    """Fields of a plain question that the server takes, which of them is the token limit, and the reply.

    OpenAI's newer models need the second limit. A model that reasons first needs more tokens than the line
    has: with few, it is refused, or ends before the line.
    """
    first: ServerRefusal | None = None
    for tokens in (_TOKENS, _REASONING_TOKENS):
        for limit in ("max_tokens", "max_completion_tokens"):
            for seed in ({"seed": 1}, {}):
                base: Json = {limit: tokens, **seed}
                question = base | {"messages": messages(_LINE, "none", (), None)[0]}
                try:
                    reply = await send(question, base.keys(), None)
                except ModelUnavailable:
                    raise
                except ServerRefusal as refusal:
                    if refusal.status not in (400, 422) and refusal.field is None:
                        raise
                    first = first or refusal
                    continue
                if tokens == _TOKENS and _is_cut(reply):
                    larger = question | {limit: _REASONING_TOKENS}
                    with suppress(ModelError):
                        if not _is_cut(longer := await send(larger, base.keys(), _ATTEMPTS)):
                            base[limit], reply = _REASONING_TOKENS, longer
                return base, limit, reply
    assert first is not None
    raise first


def _is_cut(reply: Json) -> bool:
    """Whether the token limit ended the reply to a plain question before the line was there."""
    [choice, *_] = _choices(reply)
    return choice.get("finish_reason") == "length" and _REST.split()[0] not in text_of(choice)


def _thinking_form(reply: Json) -> ThinkingForm:
    """How a reply gives what the model thought before the line."""
    choice = _choices(reply)[0]
    if thought_of(choice.get("message")):
        return "apart"
    text = text_of(choice)
    return "inline" if text.lstrip().startswith(_TAGS[0]) or _TAGS[1] in text else "none"


def _choices(reply: Json) -> list[Json]:
    return [choice for choice in reply["choices"] if isinstance(choice, dict)]


class _Probe:
    """Requests that find out one thing each, with the fields `base`, which the server takes.

    `certain` is false once one of them failed without a refusal.
    """

    def __init__(self, send: Send, owner: str, base: Json, limit: str) -> None:
        self.base, self.limit, self.certain = base, limit, True
        self._send, self._owner = send, owner

    async def _try(
        self,
        fields: Json | None = None,
        prompt: Prompt = _LINE,
        way: PromptFormat = "none",
        undecided: list[Json] | None = None,
    ) -> list[Json] | None:
        """The choices of a reply; None if the server refuses these fields, and `undecided` if it fails."""
        reply = await self._try_reply(
            fields, prompt, way, None if undecided is None else {"choices": undecided}
        )
        return None if reply is None else _choices(reply)

    async def _try_reply(
        self, fields: Json | None, prompt: Prompt, way: PromptFormat, undecided: Json | None = None
    ) -> Json | None:
        fields = fields or {}
        turns, extra = messages(prompt, way, (), None)
        try:
            body = self.base | fields | extra | {"messages": turns}
            return await self._send(body, (fields | extra).keys(), _ATTEMPTS)
        except ServerRefusal as refusal:
            if refusal.status in _NOT_THE_FIELDS:
                raise
        except (ModelFailure, ModelRefusal):
            self.certain = False
            return undecided
        return None

    async def prefix(self) -> PromptFormat:
        """How a line is continued where it was begun; first without extra fields, which may be ignored."""
        if self._owner in _FORMATS:
            return _FORMATS[self._owner]
        ways: tuple[PromptFormat, ...] = ("trailing", "continue")
        for way in ways:
            choices = await self._try(prompt=_BEGUN_LINE, way=way)
            if choices and text_of(choices[0]).lstrip().startswith(_REST.split()[0]):
                return way
        return "none"

    async def thinking_prefix(self, form: ThinkingForm) -> PromptFormat:
        """How a thought is continued where it was begun, if the model has any."""
        ways: tuple[PromptFormat, ...] = ("trailing", "continue")
        if self._owner in _FORMATS:
            ways = (_FORMATS[self._owner],)
        for way in () if form == "none" or self._owner == _OURS else ways:
            choices = await self._try(prompt=_BEGUN_THOUGHT, way=way)
            thinking = Thinking(*_TAGS, form, "inside")
            if choices and (thinking.text(choices[0]) or "").lstrip().startswith(_REST.split()[0]):
                return way
        return "none"

    async def many(self) -> bool:
        return len(await self._try({"n": 2}) or ()) == 2

    async def stops(self) -> bool:
        """Whether the stop string is included or named: one that is silently cut off might be any or none."""
        if self._owner in _NAME_THE_STOP:
            return True
        choices = await self._try(KEEP_STOP | {"stop": [_STOP]}) or ()
        ends = (thought_of(c.get("message")) + text_of(c) for c in choices)
        return any(text.rstrip().endswith(_STOP) for text in ends) or any(
            named_stop(c, (_STOP,)) for c in choices
        )

    async def randomness(self) -> tuple[str, ...]:
        """The fields of temperature and top-p that are taken together: both, the first, or the second.

        Only a refusal counts: a failure that passes must not change how later answers are sampled.
        """
        if self._owner in _FORMATS or await self._try(_RANDOMNESS, undecided=[]) is not None:
            return tuple(_RANDOMNESS)
        for name, value in _RANDOMNESS.items():
            if await self._try({name: value}, undecided=[]) is not None:
                return (name,)
        return ()

    async def top_logprobs(self) -> tuple[int, int]:
        """How many likeliest tokens are given, and the token limit of a request for them."""
        for count in (20, 5):  # the most that OpenAI and vLLM allow, and that others do
            fields: Json = {"logprobs": True, "top_logprobs": count}
            for choice in await self._try(fields) or ():
                content = (choice.get("logprobs") or {}).get("content")
                if not content or not content[0].get("top_logprobs"):
                    return 0, _CHOICE_TOKENS
                few = await self._try(fields | {self.limit: _CHOICE_TOKENS})
                return count, _CHOICE_TOKENS if few is not None else self.base[self.limit]
        return 0, _CHOICE_TOKENS

    async def prompt_logprobs(self, way: PromptFormat) -> bool:
        """Whether it gives log-probabilities of the prompt's tokens, those of a begun answer among them."""
        if way == "none":
            return False
        reply = await self._try_reply(PROMPT_LOGPROBS, _BEGUN_LINE, way)
        return reply is not None and tail_logprob(reply, 1) is not None

    async def json_schema(self) -> SchemaField:
        """The field in which a schema is enforced, not just ignored. Only vLLM has had fields of its own."""
        ways: list[SchemaField] = ["response_format"]
        if self._owner == "vllm":
            ways += ["structured_outputs", "guided_json"]
        limit = {self.limit: max(_SCHEMA_TOKENS, self.base[self.limit])}
        for way in ways:
            for choice in await self._try(limit | constraint_fields(_SCHEMA, way)) or ():
                try:
                    if json.loads(text_of(choice)) == {"tree": "amber"}:
                        return way
                except ValueError:
                    pass
        return "none"

    async def option_fields(self) -> tuple[str, ...]:
        """The fields that the server knows: it refuses a value of a wrong type, and takes a valid one."""
        if self._owner in _OPTIONS:
            return _OPTIONS[self._owner]

        async def known(name: str) -> bool:
            wrong = await self._try({name: "no number"})
            return wrong is None and await self._try({name: _TRIED}) is not None

        names = [name for names in OPTION_FIELDS.values() for name in names]
        found = await asyncio.gather(*map(known, names))
        return tuple(name for name, is_known in zip(names, found, strict=True) if is_known)
