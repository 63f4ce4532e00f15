"""Replies of the chat completions API as continuations and scores: which of them are answers at all, stop
strings, finish reasons, token counts and log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from llava_cot.core.wording import plural
from llava_cot.errors import ModelRefusal
from llava_cot.models.base import Continuation, Finish, OnText, Prompt
from llava_cot.models.endpoint.prompts import ThinkingForm
from llava_cot.models.endpoint.refusals import ServerError, read_error
from llava_cot.models.endpoint.reply_types import Json, Secret, token_count, wrong_type

# vLLM includes the stop string with the first field, SGLang with the second; each ignores the other's.
PROMPT_LOGPROBS = {"prompt_logprobs": 0}  # of no other tokens than those that are there
KEEP_STOP = {"include_stop_str_in_output": True, "no_stop_trim": True}

# Values of `finish_reason`, in lower case: those of OpenAI, and what other servers and gateways (vLLM,
# SGLang, OpenRouter, TGI, Together, Cohere, DeepSeek, Gemini, Anthropic, Zhipu) have in their place.
_COMPLETE = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete"})
_FAILED = frozenset({"error", "abort", "insufficient_system_resource", "network_error"})
_REFUSED = frozenset(
    {
        "content_filter",
        "refusal",
        "safety",
        "recitation",
        "prohibited_content",
        "blocklist",
        "spii",
        "sensitive",
    }
)
_LOOKS = 1000  # characters of a streamed text from which on it is not looked at for each new one
_TOOL = frozenset({"tool_calls", "tool_call", "function_call", "tool_use", "malformed_function_call"})


class BrokenReply(Exception):
    """A reply that is no answer; another attempt may give one. `error` is what the server says about it."""

    def __init__(self, reason: str, error: Any = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error: ServerError = read_error(error)


def check_reply(reply: Json, n: int | None = None) -> None:
    """Check that a reply has answers, complete or cut at the token limit, in fields of the right types.

    Args:
        reply: What the server sent.
        n: How many answers were requested, if that counts.

    Raises:
        BrokenReply: It has none, or another number, or reports an error, or calls a tool, although none was
            offered.
        ModelRefusal: The model refused, or a filter stopped it; the message has its words.
    """
    choices = reply["choices"]
    if not choices:
        raise BrokenReply("its reply has no choices", reply.get("error"))
    if wrong := wrong_type(reply):
        raise BrokenReply(f"its reply has a value that cannot be ({wrong})", reply.get("error"))
    for choice in choices:
        reason = _finish_reason(choice)
        if reason in _FAILED or choice.get("error") or reply.get("error"):
            error = choice.get("error") or reply.get("error")
            raise BrokenReply(f"its reply ended with {reason if reason in _FAILED else 'an error'}", error)
        if refusal := " ".join(_refusal(choice.get("message")).split()).rstrip("."):
            raise ModelRefusal(f"refused to answer: {refusal}")
        if reason in _REFUSED:
            raise ModelRefusal(f"gave no answer (finish_reason {reason}: a filter stopped it)")
        message = choice.get("message")
        if message is None:
            raise BrokenReply("its reply has a choice without a message")
        # Some servers end such a reply as any other.
        if reason in _TOOL or (message.get("tool_calls") and not text_of(choice)):
            raise BrokenReply("it called a tool instead of answering")
    if n is not None and len(choices) != n:
        raise BrokenReply(f"its reply has {plural(len(choices), 'choice')}, and {n} were requested")


def _finish_reason(choice: Json) -> str | None:
    reason = choice.get("finish_reason")
    return reason.casefold() if isinstance(reason, str) else None


def _refusal(message: Any) -> str:
    """The words in which a model refuses, in the message's own field or as parts of its content."""
    if not isinstance(message, dict):
        return ""
    found = [message.get("refusal"), *(part.get("refusal") for part in _dicts(message.get("content")))]
    return "".join(text for text in found if isinstance(text, str))


def continuations(
    reply: Json,
    stops: Sequence[str],
    price: Callable[[int, int], float | None],
    join: Callable[[str], str] = lambda text: text,
    hide: Callable[[str], str] = lambda text: text,
    thinking: Thinking | None = None,
) -> list[Continuation]:
    """The samples of one reply.

    Each sample counts the whole prompt's tokens, as a local model does; the prompt's price is paid once and
    divided among them. Servers report the tokens of all samples of a reply as one sum: it is divided by the
    counts of log-probabilities, else by the lengths of the texts. `join` makes each text the continuation of
    the prompt's prefix; `hide` takes the server's key out of it, which may have come in several parts. With
    `thinking`, a text begins with what the model thinks.
    """
    choices = sorted(reply["choices"], key=lambda choice: choice.get("index") or 0)
    read = text_of if thinking is None else partial(thinking.text, stops=stops)
    texts = [hide(read(choice) or "") for choice in choices]
    logprobs = [_tokens(choice) for choice in choices]
    prompt_tokens = token_count(reply, "prompt_tokens") or 0
    total = token_count(reply, "completion_tokens")
    counts = [len(tokens) for tokens in logprobs]
    if total is not None and sum(counts) != total:
        counts = _shares(total, [len(text) for text in texts])
    spent = price(prompt_tokens, sum(counts))
    found = []
    for choice, raw, tokens, count in zip(choices, texts, logprobs, counts, strict=True):
        text, finish = cut(raw, stops, choice)
        found.append(
            Continuation(
                text=join(text),
                tokens=(),
                logprob=_logprob(tokens, text) if tokens else None,
                finish=finish,
                prompt_tokens=prompt_tokens,
                completion_tokens=count,
                usd=None if spent is None else spent / len(choices),
            )
        )
    return found


def text_of(choice: Json) -> str:
    message = choice.get("message")
    return _text(message.get("content")) if isinstance(message, dict) else ""


def thought_of(message: Any) -> str:
    """The thinking that a reasoning parser has taken out of a message's text.

    vLLM's name since 0.12, and that of most others. Values of other types are something else.
    """
    fields = message if isinstance(message, dict) else {}
    texts = (fields.get(name) for name in ("reasoning", "reasoning_content"))
    return next((text for text in texts if isinstance(text, str) and text), "")


@dataclass(frozen=True)
class Thinking:
    """How the replies to a prompt with `thinking` become the text that the model wrote after the opening tag.

    Attributes:
        open: The opening tag.
        close: The closing tag.
        form: Whether the server has a reasoning parser.
        place: Where the prompt's prefix ends: before the thinking, inside it, or after it.
    """

    open: str
    close: str
    form: ThinkingForm
    place: Literal["before", "inside", "after"]

    @classmethod
    def of(cls, prompt: Prompt, form: ThinkingForm) -> Thinking | None:
        if prompt.thinking is None:
            return None
        inside = "after" if prompt.thinking[1] in prompt.prefix else "inside"
        return cls(*prompt.thinking, form, inside if prompt.prefix else "before")  # type: ignore[arg-type]

    def text(self, choice: Json, stops: Sequence[str] = (), *, ended: bool = True) -> str | None:
        """The text of a choice; None for one that is not complete, and may be thinking or an answer.

        Parsers that look at the reply alone take an answer after a thought, or a thought that was continued,
        for the other of the two.
        """
        message, named = choice.get("message"), named_stop(choice, stops)
        thought, content = thought_of(message), text_of(choice)
        if self.place == "after":
            return thought + content
        closing = self.close if named == self.close else ""
        if thought:
            # A parser takes the closing tag too where the reply was stopped at it.
            complete = _finish_reason(choice) in _COMPLETE and self.close in stops
            if complete and named is None and not any(thought.endswith(stop) for stop in stops):
                closing = self.close
            return thought + (self.close + content if content else closing)
        if self.place == "inside":
            return content + closing
        plain = content.lstrip()
        if plain.startswith(self.open):
            return plain[len(self.open) :] + closing
        if self.close in content or named or any(stop in content for stop in stops):
            return content + closing
        if self.form == "apart":
            return self.close + content if content else ""
        cut = _finish_reason(choice) not in (None, *_COMPLETE)
        return content if cut and ended else self.close + content if ended else None


def _text(content: Any) -> str:
    """The text of a message's content: a string, or a list of parts, of which those of other kinds (such as a
    model's thinking) are left out."""
    if isinstance(content, list):
        parts = (part if isinstance(part, str) else _text_part(part) for part in content)
        return "".join(parts)
    return content if isinstance(content, str) else ""


def _text_part(part: Any) -> str:
    if not isinstance(part, dict) or part.get("type", "text") not in ("text", "output_text"):
        return ""
    text = part.get("text")
    return text if isinstance(text, str) else ""


def named_stop(choice: Json, stops: Sequence[str]) -> str | None:
    """The stop string that ended a sample, where the server names it (vLLM, SGLang)."""
    for name in ("stop_reason", "matched_stop"):
        if choice.get(name) in stops:
            return str(choice[name])
    return None


def cut(text: str, stops: Sequence[str], choice: Json) -> tuple[str, Finish]:
    """The text up to and including the first stop string, as `Sampling` defines it, and why it ended."""
    ends = [text.index(stop) + len(stop) for stop in stops if stop and stop in text]
    if ends:
        return text[: min(ends)].rstrip(), "stop"
    named = named_stop(choice, stops)
    if named is not None:
        return (text + named).rstrip(), "stop"
    reason = _finish_reason(choice)
    # A reason that is not known does not make an answer complete; llama.cpp and older servers may give none.
    return text, "eos" if reason is None or reason in _COMPLETE else "length"


def scores(reply: Json, options: Sequence[str]) -> list[float] | None:
    """Log-probability of each option as the next word; None if the reply has no log-probabilities.

    They are read at the first token that is more than white space, if there is one. An option that is not
    among the likeliest tokens there counts as impossible.
    """
    choices = _dicts(reply["choices"])
    tokens = _tokens(choices[0]) if choices else []
    if not tokens:
        return None
    token = next((token for token in tokens if str(token.get("token", "")).strip()), tokens[0])
    top = _dicts(token.get("top_logprobs")) or [token]
    found: list[float] = []
    for option in options:
        likely = [t["logprob"] for t in top if str(t.get("token", "")).strip() == option.strip()]
        best = max(likely, default=-math.inf)
        rest = sum(math.exp(logprob - best) for logprob in likely) if math.isfinite(best) else 1.0
        found.append(min(0.0, best + math.log(rest)))
    return found


def tail_logprob(reply: Json, start: int) -> float | None:
    """Log-probability of the prompt's tokens from number `start` on; None if the reply does not have it.

    As vLLM gives it: an entry for each token of the prompt, null for the first one, which nothing precedes.
    """
    tokens = reply.get("prompt_logprobs")
    if not isinstance(tokens, list) or not 0 < start < len(tokens):
        return None
    values: list[float] = []
    for token in tokens[start:]:
        entry = next(iter(token.values()), None) if isinstance(token, dict) else None
        value = entry.get("logprob") if isinstance(entry, dict) else None
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            return None
        values.append(value)
    return math.fsum(values)


def _dicts(values: Any) -> list[Json]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _tokens(choice: Json) -> list[Json]:
    logprobs = choice.get("logprobs")
    return _dicts(logprobs.get("content")) if isinstance(logprobs, dict) else []


def _logprob(tokens: list[Json], text: str) -> float:
    """The sum over the tokens that make up the text, without what was cut off and without an end token."""
    length = len(text.encode())
    total, covered = 0.0, 0
    for token in tokens:
        if covered >= length:
            break
        covered += len(token.get("bytes") or str(token.get("token", "")).encode())
        total += token.get("logprob") or 0.0
    return total


def _shares(total: int, lengths: list[int]) -> list[int]:
    """A total divided in proportion to lengths; the parts add up to it."""
    whole = sum(lengths) or 1
    ends = [total * sum(lengths[: i + 1]) // whole for i in range(len(lengths))]
    ends[-1:] = [total] if ends else []
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def as_chunk(reply: Any) -> Json | None:
    """A whole reply as the only event of a stream; None if a JSON value is no reply."""
    if not isinstance(reply, dict) or not _dicts(reply.get("choices")):
        return None
    return reply | {"choices": [{**one, "delta": one.get("message")} for one in _dicts(reply["choices"])]}


class StreamedText:
    """A text that is streamed in pieces, and perhaps generated again: nothing is sent twice."""

    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text
        self._sent = ""

    def send(self, text: str) -> bool:
        """Send what was not sent of a text. False if the text does not begin with what was sent."""
        if len(text) > len(self._sent) and text.startswith(self._sent):
            self._on_text(text[len(self._sent) :])
            self._sent = text
        return text.startswith(self._sent)


class StreamedReply:
    """One sample that arrives in pieces, which are streamed as they come; `reply` is what they make up.

    After a broken connection the sample is requested again: `restart` drops what arrived, but not what was
    streamed, so that nothing is streamed twice. `secret` is hidden also where it comes in several pieces.
    """

    def __init__(
        self, stops: Sequence[str], on_text: OnText, secret: Secret, thinking: Thinking | None = None
    ) -> None:
        self._stops, self._secret, self._thinking = stops, secret, thinking
        self.send = StreamedText(on_text).send
        self.restart()

    def restart(self) -> Callable[[Json], None]:
        """Begin a new attempt. Returns the reader of its events."""
        self._pieces: list[str] = []
        self._thoughts: list[str] = []
        self._length = self._looked = 0  # characters, and how many there were at the last look for stops
        self._tokens: list[Json] = []
        self._refusal = ""
        self._tools = False
        self._choice: Json = {}
        self._error: Any = None
        self._usage: Json | None = None
        return self._take

    def _take(self, chunk: Json) -> None:
        if wrong := wrong_type(chunk):
            raise BrokenReply(f"an event of its reply has a value that cannot be ({wrong})")
        if any(choice.get("index") for choice in chunk["choices"]):
            raise BrokenReply("its reply has several choices, and 1 was requested")
        self._usage = chunk.get("usage") or self._usage
        self._error = chunk.get("error") or self._error
        for choice in chunk["choices"]:
            delta = choice.get("delta")
            self._refusal += _refusal(delta)
            self._tools = self._tools or (isinstance(delta, dict) and bool(delta.get("tool_calls")))
            if isinstance(delta, dict) and (piece := _text(delta.get("content"))):
                self._pieces.append(piece)
                self._length += len(piece)
            if self._thinking is not None and (piece := thought_of(delta)):
                self._thoughts.append(piece)
                self._length += len(piece)
            self._tokens += _tokens(choice)
            self._choice |= {key: value for key, value in choice.items() if value is not None}
        # A look goes through the whole text: one that does not end is shown in larger and larger parts.
        if self._length - self._looked >= self._length // _LOOKS:
            self._looked = self._length
            text: str | None = "".join(self._pieces)
            if self._thinking is not None:
                message = {"content": text, "reasoning": "".join(self._thoughts)}
                text = self._thinking.text({"message": message}, ended=False)
            if text is not None:
                shown, _ = cut(self._secret.settled(text), self._stops, {})
                self.send(shown.rstrip() if self._stops else shown)

    @property
    def reply(self) -> Json:
        """The reply as it would have come in one piece. Without a reported usage, pieces are counted."""
        usage = self._usage or {
            "completion_tokens": len(self._tokens) or len(self._pieces) + len(self._thoughts)
        }
        hide = self._secret.hide
        message = {
            "content": hide("".join(self._pieces)),
            "reasoning": hide("".join(self._thoughts)),
            "refusal": hide(self._refusal),
            "tool_calls": self._tools,
        }
        whole = {"index": 0, "message": message, "logprobs": {"content": self._tokens}}
        choices = [self._choice | whole] if self._choice else []
        return {"choices": choices, "error": self._error, "usage": usage}
