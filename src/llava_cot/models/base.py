"""What a model is to the rest of the project: the protocols, the values that cross them, and the checks
that all models share. Imports no torch."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from hashlib import sha256
from typing import Annotated, Literal, Protocol, runtime_checkable

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated

from llava_cot.core.question import PLACE, LoadedImage, in_order
from llava_cot.core.stages import StageFormat
from llava_cot.errors import ModelError

Finish = Literal["stop", "eos", "length"]
Role = Literal["system", "user", "assistant"]
ConstraintKind = Literal["json", "grammar"]
StepScores = Literal["min", "mean", "last"]

# Called with the text that one sample has gained. Only the first of several samples is streamed.
OnText = Callable[[str], None]


@dataclass(frozen=True)
class Message:
    """One turn. Its images come before its text, so that prompts on one image share a prefix, or at its
    `PLACE`s."""

    role: Role
    text: str
    images: tuple[LoadedImage, ...] = ()

    @property
    def parts(self) -> list[str | LoadedImage]:
        """Text and images in their order."""
        return in_order(self.text, self.images)


@dataclass(frozen=True)
class Prompt:
    """A conversation, and the beginning of the assistant's answer, which the model continues.

    Attributes:
        messages: The turns before the answer.
        prefix: The answer so far.
        prefix_tokens: The token ids of `prefix`, where known. A model that works with ids continues exactly
            these (section 3.2 of the paper continues the winner itself, not its text tokenized again); any
            other model reads `prefix`.
        thinking: The tags of the model's thinking. With them the answer begins with it: `prefix` and what is
            sampled follow the opening tag, whoever writes that, the chat template or we.
    """

    messages: tuple[Message, ...]
    prefix: str = ""
    prefix_tokens: tuple[int, ...] | None = None
    thinking: tuple[str, str] | None = None

    @classmethod
    def of(
        cls,
        text: str,
        images: Sequence[LoadedImage] = (),
        prefix: str = "",
        prefix_tokens: tuple[int, ...] | None = None,
    ) -> Prompt:
        """A prompt of one user message."""
        return cls((Message("user", text, tuple(images)),), prefix, prefix_tokens)


@dataclass(frozen=True)
class Constraint:
    """What the text of a sample must match while it is written (constrained decoding).

    Attributes:
        kind: "json" for a JSON schema, "grammar" for a Lark grammar as llguidance reads it.
        text: The schema, whose properties come in its order, or the grammar. It covers all that a sample
            adds to the prompt's prefix.
    """

    kind: ConstraintKind
    text: str


@validated(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Sampling:
    """The options of sampling, such as temperature and seed.

    The defaults are the paper's (published script: 0.6, 0.9, 2,048 new tokens).
    The options apply in the order of transformers' `generate`: constraint, repetition penalty, temperature,
    top-k, top-p, min-p. With `stop`, text ends at the first of these strings, which stays in it, less any
    white space at its end. Sample i of a call is drawn from (`seed`, `first` + i) alone, whatever else shares
    its batch: with `first`, a later call continues the numbers of an earlier one. (A server that gives
    several samples per request draws them all from the number of the first.)

    `SAMPLING_OPTIONS` are the fields that users set; their descriptions and bounds make the options of the
    command line, the recipes and the HTTP API. A model declares which of `OPTIONAL_SAMPLING` it honors, and
    which constraints (`sampling_options_of`, `constraints_of`).

    Raises:
        ValidationError: From pydantic, for values out of bounds (`explain_sampling` puts it in one sentence).
    """

    temperature: Annotated[float, Field(ge=0, description="Randomness of sampling; 0 is greedy.")] = 0.6
    top_p: Annotated[
        float, Field(gt=0, le=1, description="Sample from the likeliest tokens of this total probability.")
    ] = 0.9
    _: KW_ONLY
    top_k: Annotated[int, Field(ge=0, description="Sample from this many likeliest tokens; 0 is off.")] = 0
    min_p: Annotated[
        float,
        Field(ge=0, le=1, description="Drop tokens less likely than this share of the likeliest; 0 is off."),
    ] = 0.0
    repetition_penalty: Annotated[
        float,
        Field(
            ge=0.01, le=100, description="Penalty on tokens of the prompt and the answer so far; 1 is off."
        ),
    ] = 1.0
    max_tokens: Annotated[int, Field(ge=1, description="Longest sample, in tokens.")] = 2048
    seed: Annotated[int, Field(description="Seed of the random numbers.")] = 0
    stop: tuple[str, ...] = ()
    first: int = 0
    constraint: Constraint | None = None


SAMPLING_OPTIONS = tuple(
    name
    for name, field in Sampling.__pydantic_fields__.items()  # type: ignore[attr-defined]
    if field.description
)
# Options that not every model honors. Off by default, so that models without them work.
OPTIONAL_SAMPLING = ("top_k", "min_p", "repetition_penalty")
_DEFAULTS = {field.name: field.default for field in fields(Sampling)}


def explain_sampling(error: ValidationError) -> str:
    """One sentence on the first thing that is wrong with a `Sampling`: the option, its value, its bounds."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    schema = TypeAdapter(Sampling).json_schema()["properties"].get(name)
    if schema is None:
        return f"there is no sampling option {name!r}; choose one of {', '.join(SAMPLING_OPTIONS)}"
    words = {"minimum": "at least {:g}", "exclusiveMinimum": "more than {:g}", "maximum": "at most {:g}"}
    bounds = " and ".join(text.format(schema[key]) for key, text in words.items() if key in schema)
    what = {"integer": "a whole number", "number": "a number"}.get(schema.get("type", ""), "another value")
    meaning = schema.get("description", "").rstrip(".")
    hint = f" ({meaning[0].lower()}{meaning[1:]})" if meaning else ""
    return f"{name} is {first['input']}; give {what}{f' of {bounds}' if bounds else ''}{hint}"


@dataclass(frozen=True)
class Continuation:
    """One sampled continuation of a prompt's prefix.

    Attributes:
        text: What follows the prefix, without an end token.
        tokens: The ids of `text`, without an end token; empty where the model gives no ids.
        logprob: Sum of the tokens' log-probabilities at temperature 1, without any constraint or penalty
            (natural logarithm); None where a server does not give it.
        finish: "stop" at a stop string, "eos" at the model's own end, "length" at `max_tokens`.
        prompt_tokens: Length of the prompt in tokens.
        completion_tokens: Tokens generated, an end token included.
        usd: Cost in US dollars; None where there is no price.
    """

    text: str
    tokens: tuple[int, ...]
    logprob: float | None
    finish: Finish
    prompt_tokens: int
    completion_tokens: int
    usd: float | None = None

    def __post_init__(self) -> None:
        if PLACE in self.text:  # else it would take a picture's place in a prompt with this text
            object.__setattr__(self, "text", self.text.replace(PLACE, "\N{REPLACEMENT CHARACTER}"))


@dataclass(frozen=True)
class Reward:
    """A reward model's value of an answer (higher is better), the tokens it read, and the cost in dollars.

    `steps` are the values of the answer's steps from a process reward model, of which `value` is the last.
    """

    value: float
    prompt_tokens: int = 0
    usd: float | None = None
    steps: tuple[float, ...] = ()


class Model(Protocol):
    """A source of tokens. Calls may run concurrently; a local model batches them.

    A model may also declare `sampling_options` (those of `OPTIONAL_SAMPLING` that it honors) and
    `constraints` (the kinds of constraint that it can enforce); without them it has none. Without `logprobs`
    it gives log-probabilities, without `scores_texts` those of whole texts too, without `ignored_sampling` it
    honors all other options of sampling, without `continues_prefix` it continues a prompt's prefix, and
    without `domain` it answers any question. With `writes_stages(fmt)` it says whether it was trained to
    write a format's stages (None: not known), and `remember_stages(fmt, trained)` is called once that was
    found out. With `thinks(fmt)` it says whether it thinks before it answers (None: not known). Without
    `continues_thinking` it goes on inside its thinking if it continues a prefix.
    """

    name: str

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        """Sample continuations of `prompt.prefix`.

        Args:
            prompt: What to continue.
            n: How many samples, at least 1.
            sampling: How to sample.
            on_text: Called with the text that the first sample gains, in the caller's event loop.

        Returns:
            `n` continuations, in the order of their numbers.

        Raises:
            ModelError: The model cannot do this.
            ModelFailure: It failed at a valid request.
        """
        ...

    async def choose(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        """Score options as continuations of `prompt.prefix`.

        A single option may be a text of any length if the model `scores_texts`.

        Returns:
            The log-probability of each option (natural logarithm), in the order of the options.

        Raises:
            ModelError: The model cannot do this.
        """
        ...

    def count_tokens(self, prompt: Prompt) -> int:
        """Length of the prompt in tokens, image placeholders included (0 where unknown)."""
        ...

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Cost of so many tokens in US dollars; None where there is no price."""
        ...


@runtime_checkable
class RewardModel(Protocol):
    """A model that gives an answer a number: higher is better, in units of its own."""

    name: str

    async def reward(self, prompt: Prompt, answer: str) -> Reward:
        """Score an answer, or its beginning, to a prompt without a prefix.

        Raises:
            ModelError: The model cannot do this.
        """
        ...


def constraints_of(model: object) -> tuple[ConstraintKind, ...]:
    """The kinds of constraint that a model can enforce, by its declaration; none without one."""
    kinds: tuple[ConstraintKind, ...] = getattr(model, "constraints", ())
    return kinds


def sampling_options_of(model: object) -> tuple[str, ...]:
    """The `OPTIONAL_SAMPLING` that a model honors, by its declaration; none without one."""
    options: tuple[str, ...] = getattr(model, "sampling_options", ())
    return options


def gives_logprobs(model: object) -> bool:
    """Whether a model scores options and gives its samples' log-probabilities, by its declaration."""
    return bool(getattr(model, "logprobs", True))


def scores_texts(model: object) -> bool:
    """Whether `choose` scores a text of any length, by its declaration."""
    return bool(getattr(model, "scores_texts", True))


def ignored_sampling_of(model: object) -> tuple[str, ...]:
    """The options of sampling, other than `OPTIONAL_SAMPLING`, that have no effect on a model."""
    options: tuple[str, ...] = getattr(model, "ignored_sampling", ())
    return options


def continues_prefix(model: object) -> bool:
    """Whether a model goes on within a prompt's prefix, by its declaration, and not in a new turn."""
    return bool(getattr(model, "continues_prefix", True))


def writes_stages(model: object, fmt: StageFormat) -> bool | None:
    """Whether a model was trained to write the stages of a format, by its declaration; None if not known."""
    declared = getattr(model, "writes_stages", None)
    return None if declared is None else declared(fmt)


def thinks(model: object, fmt: StageFormat) -> bool | None:
    """Whether a model thinks in the tags of a format before it answers, by its declaration."""
    declared = getattr(model, "thinks", None)
    return None if declared is None else declared(fmt)


def continues_thinking(model: object) -> bool:
    """Whether a model goes on inside its thinking, by its declaration."""
    return bool(getattr(model, "continues_thinking", continues_prefix(model)))


def domain_of(model: object) -> str | None:
    """The only subject that a model knows, such as "scenes", by its declaration; None without one."""
    domain: str | None = getattr(model, "domain", None)
    return domain


def optional_sampling(sampling: Sampling) -> dict[str, float]:
    """The `OPTIONAL_SAMPLING` that are set, by name."""
    found = {name: getattr(sampling, name) for name in OPTIONAL_SAMPLING}
    return {name: value for name, value in found.items() if value != _DEFAULTS[name]}


def check_sampling(model: object, name: str, sampling: Sampling) -> None:
    """Raise ModelError if an option is set that a model, called `name` in the message, ignores."""
    for option in optional_sampling(sampling):
        if option not in sampling_options_of(model):
            raise ModelError(f"{name} does not support {option}; leave it out, or choose another model")


def check_call(model: object, name: str, n: int, sampling: Sampling) -> None:
    """Raise ModelError for a call of `sample` that a model, called `name` in the message, cannot answer."""
    if n < 1:
        raise ModelError(f"{n} samples were requested; request at least 1")
    constraint = sampling.constraint
    if constraint is not None and constraint.kind not in constraints_of(model):
        what = {"json": "a JSON schema", "grammar": "a grammar"}[constraint.kind]
        raise ModelError(f"{name} cannot constrain its output to {what}; choose another method or model")
    check_sampling(model, name, sampling)


def cache_bytes(cache_mb: int | str, max_batch: int) -> int | None:
    """The memory for caches in bytes; None for "auto". Raises ModelError if there is none, or no sequence."""
    if max_batch < 1:
        raise ModelError(f"the largest batch is {max_batch}; give at least 1")
    if cache_mb == "auto":
        return None
    try:
        size = int(cache_mb)
    except ValueError:
        raise ModelError(f"the memory for caches is {cache_mb!r}; give a number of MiB, or auto") from None
    if size < 1:
        raise ModelError(f"the memory for caches is {size} MB; give at least 1")
    return size * 2**20


def no_option() -> ModelError:
    return ModelError("there is no option to choose, or an empty one; give every option some text")


def too_long(name: str, tokens: int, context: int) -> ModelError:
    return ModelError(
        f"the prompt has {tokens} tokens, which leaves no room in the {context} that {name} "
        "takes; ask something shorter or use fewer images"
    )


def check_ids(name: str, ids: Sequence[int], context: int, size: int) -> None:
    """Raise ModelError if a prompt does not fit into the context, or has ids that the model does not have."""
    if len(ids) >= context:
        raise too_long(name, len(ids), context)
    if ids and not 0 <= min(ids) <= max(ids) < size:
        raise ModelError(f"the prompt has token ids that {name} does not know")


def request_seed(seed: int, number: int) -> int:
    """A seed of 31 bits, which every server takes, for sample `number` of a call."""
    return random.Random(f"{seed}/{number}").getrandbits(31)


def seed_of(*parts: object) -> int:
    """A seed of 31 bits for one request, made from what it is about."""
    return int.from_bytes(sha256("\0".join(map(repr, parts)).encode()).digest()[:4], "big") >> 1
