"""Stages of models that were never trained on them: the model is prompted for each, we put the tags.

Where a model continues a prefix, the stages are explained before the question, and its prefix is the answer
so far with the next opening tag. Where it does not, each stage is a turn of its own. In both cases the reply
is the text of one stage, with tags or without, so that every search works on any chat model.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from llava_cot.core.question import Question, answer_form, question_text
from llava_cot.core.stages import SENTENCE, Stage, StageFormat, last_closed, parse, without_tags
from llava_cot.core.tags import find_tags
from llava_cot.core.trace import Candidate, Staging, Usage
from llava_cot.models.base import (
    Continuation,
    Message,
    Model,
    OnText,
    Prompt,
    Sampling,
    continues_prefix,
    seed_of,
    thinks,
    writes_stages,
)
from llava_cot.search.budget import first_limit
from llava_cot.search.without_thinking import without_thinking

if TYPE_CHECKING:
    from llava_cot.search.search import Search

_PROBE_TOKENS = 64  # a model that writes stages begins with one
_PROBES: WeakKeyDictionary[Model, dict[StageFormat, asyncio.Task[Staging]]] = WeakKeyDictionary()


async def find_staging(model: Model, fmt: StageFormat, question: Question) -> Staging:
    """Whether a model writes the stages by itself ("trained", or "thinking") or is prompted for each.

    It says so itself, or the beginning of one answer shows it, sampled once for each model and format.

    Raises:
        ModelError, ModelFailure: The model cannot answer.
    """
    declared = (fmt.thinking and thinks(model, fmt)) or writes_stages(model, fmt)
    if declared is not None:
        return _staging(declared, fmt)
    probes = _PROBES.setdefault(model, {})
    known = probes.get(fmt)
    if known is None or (known.done() and (known.cancelled() or known.exception())) or _is_lost(known):
        known = probes[fmt] = asyncio.create_task(_probe(model, fmt, question))
    return await asyncio.shield(known)


def _is_lost(task: asyncio.Task[Staging]) -> bool:
    """Whether a task belongs to an event loop that will not finish it."""
    return not task.done() and task.get_loop() is not asyncio.get_running_loop()


async def _probe(model: Model, fmt: StageFormat, question: Question) -> Staging:
    prompt = Prompt.of(question_text(question), question.images)
    [reply] = await model.sample(prompt, 1, Sampling(temperature=0, max_tokens=_PROBE_TOKENS))
    trained = any(tag.opens for tag in find_tags(reply.text, fmt.pairs))
    remember = getattr(model, "remember_stages", None)
    if remember is not None:
        remember(fmt, trained)
    return _staging(trained, fmt)


def _staging(by_itself: bool, fmt: StageFormat) -> Staging:
    return ("thinking" if fmt.thinking else "trained") if by_itself else "prompted"


def stage_purpose(at: int, question: Question, fmt: StageFormat) -> str:
    """What belongs in stage `at`, in words; without an explanation, its name and place."""
    stage = fmt.stages[at]
    named = f'the part called "{stage.name}"'
    if stage.name == fmt.final:
        lead = stage.purpose.rstrip(".") or ("" if stage.name == "conclusion" or fmt.thinking else named)
        return f"{lead}: {answer_form(question)}" if lead else answer_form(question)
    place = f'follows the part called "{fmt.names[at - 1]}"' if at else "comes first"
    return stage.purpose.rstrip(".") or f"{named}, which {place}"


def tagged_instruction(question: Question, fmt: StageFormat) -> str:
    """The instruction to write all stages of a format with their tags, in order."""
    parts = (f"{s.open} {stage_purpose(i, question, fmt)} {s.close}" for i, s in enumerate(fmt.stages))
    return "\n".join(
        (
            "Answer the question at the end in these parts, in this order. Write each between its tags, as "
            "they stand here, and nothing outside of them. What belongs between the tags is said there.",
            *parts,
        )
    )


async def prompted(
    search: Search, path: Sequence[Candidate], n: int, sampling: Sampling, on_text: OnText | None = None
) -> list[Continuation]:
    """n continuations of a path in this round's stage, by prompting.

    Args:
        search: The search; its round is that of a stage, of a sentence, or of a whole answer.
        path: What they continue.
        n: How many.
        sampling: How to sample. Its stop strings are those of a model that writes stages by itself.
        on_text: Called with each complete stage of the first one.
    """
    text, fmt = "".join(candidate.text for candidate in path), search.fmt
    if search.stage == SENTENCE:
        return await _sentences(search, path, text, n, sampling)
    if sampling.stop and search.stage in fmt.names:
        return await _stage(search, text, fmt.names.index(search.stage), n, sampling)
    answers = (
        _answer(search, text, replace(sampling, first=sampling.first + i), None if i else on_text)
        for i in range(n)
    )
    return list(await asyncio.gather(*answers))


async def _answer(search: Search, text: str, sampling: Sampling, on_text: OnText | None) -> Continuation:
    """A whole answer, or the stages that its beginning lacks, together of at most `max_tokens`."""
    parts: list[Continuation] = []
    left = sampling.max_tokens
    closed = last_closed(text, search.fmt)
    for at in range(0 if closed is None else closed + 1, len(search.fmt.stages)):
        limit = min(sampling.max_tokens, first_limit(left, len(search.fmt.stages) - at))
        settings = replace(sampling, seed=seed_of(sampling.seed, at), max_tokens=limit)
        [part] = await _stage(search, text + "".join(part.text for part in parts), at, 1, settings)
        parts.append(part)
        left -= part.completion_tokens
        if on_text is not None:
            on_text(part.text)
    return joined(search, parts)


def joined(search: Search, parts: Sequence[Continuation]) -> Continuation:
    """The parts of one sample as one, which ends with the last of them."""
    search.spend(Usage(model_calls=len(parts) - 1))  # the last call is counted with the sample
    prices = [part.usd for part in parts if part.usd is not None]
    logprobs = [part.logprob for part in parts if part.logprob is not None]
    return Continuation(
        text="".join(part.text for part in parts),
        tokens=(),
        logprob=sum(logprobs) if len(logprobs) == len(parts) else None,
        finish="length" if any(part.finish == "length" for part in parts) else "eos",
        prompt_tokens=sum(part.prompt_tokens for part in parts),
        completion_tokens=sum(part.completion_tokens for part in parts),
        usd=sum(prices) if prices else None,
    )


async def _stage(search: Search, text: str, at: int, n: int, sampling: Sampling) -> list[Continuation]:
    """n texts of stage `at`, in its tags, after the text of the earlier stages."""
    fmt, stage = search.fmt, search.fmt.stages[at]
    lead = ("\n\n" if text else "") + stage.open
    if continues_prefix(search.model):
        prompt, stop = (
            replace(tagged_prompt(search.question, fmt), prefix=text + lead),
            (stage.close, *_all_tags(fmt)),
        )
    else:
        prompt, stop = in_turns(search, text, at), ()
    model = without_thinking(search.model, fmt)
    found = await search.draw(prompt, n, replace(sampling, stop=stop), model=model)
    last = at == len(fmt.stages) - 1

    def as_stage(reply: Continuation) -> Continuation:
        finish = reply.finish if reply.finish == "length" else "eos" if last else "stop"
        inner = stage_text(reply.text, stage, fmt)
        return replace(reply, text=f"{lead} {inner} {stage.close}", tokens=(), finish=finish)

    return [as_stage(reply) for reply in found]


async def _sentences(
    search: Search, path: Sequence[Candidate], text: str, n: int, sampling: Sampling
) -> list[Continuation]:
    """n next sentences of the open stage, or first ones of the next stage.

    A stage ends with the model's reply, with a tag, or when it has had its share of the tokens: a model that
    always has more to say would never come to the answer.
    """
    fmt = search.fmt
    tags = find_tags(text, fmt.pairs)
    opened = bool(tags) and tags[-1].opens
    at = min(tags[-1].stage + (not opened), len(fmt.stages) - 1) if tags else 0
    stage, lead = fmt.stages[at], "" if opened else ("\n\n" if text else "") + fmt.stages[at].open
    last = at == len(fmt.stages) - 1
    share = max(1, search.request.sampling.max_tokens // len(fmt.stages))
    left = share - _written(path, stage)
    limit = max(1, min(sampling.max_tokens, left))
    prompt = replace(tagged_prompt(search.question, fmt), prefix=text + lead)
    stop = tuple(
        dict.fromkeys((*(end for end in sampling.stop if end not in fmt.closing_tags), *_all_tags(fmt)))
    )
    model = without_thinking(search.model, fmt)
    found = await search.draw(prompt, n, replace(sampling, stop=stop, max_tokens=limit), model=model)

    def as_sentence(reply: Continuation) -> Continuation:
        tagged = find_tags(reply.text, fmt.pairs)
        inner = without_tags(reply.text[: tagged[0].start] if tagged else reply.text, fmt)
        begins = " " if inner and not (text + lead)[-1:].isspace() else ""
        used_up = reply.completion_tokens >= left
        if not tagged and reply.finish == "stop" and not used_up:
            return replace(reply, text=lead + begins + inner, tokens=())
        text_closed = f"{lead}{begins}{inner} {stage.close}"
        return replace(reply, text=text_closed, tokens=(), finish="eos" if last else "stop")

    return [as_sentence(reply) for reply in found]


def _written(path: Sequence[Candidate], stage: Stage) -> int:
    """The tokens of the candidates at the end of a path since this stage was opened."""
    count = 0
    for candidate in reversed(path):
        if stage.close in candidate.text:
            break
        count += candidate.completion_tokens
        if stage.open in candidate.text:
            return count
    return 0


def _all_tags(fmt: StageFormat) -> tuple[str, ...]:
    """A model that leaves out a closing tag goes on with another opening one."""
    return tuple(tag for pair in fmt.pairs for tag in reversed(pair))


def tagged_prompt(question: Question, fmt: StageFormat) -> Prompt:
    """The question after the explanation of all stages with their tags."""
    text = f"{tagged_instruction(question, fmt)}\n\nQuestion:\n{question_text(question)}"
    return Prompt.of(text, question.images)


def in_turns(search: Search, text: str, at: int) -> Prompt:
    """The question, the earlier stages, each a turn that was asked for, and the request for this one."""
    question, fmt = search.question, search.fmt
    names = ", ".join(fmt.names)
    opening = (
        f"Answer the question below in parts, one at a time, as I ask for them: {names}.\n\n"
        f"Question:\n{question_text(question)}"
    )
    given = parse(text, fmt).stages
    turns: list[Message] = []
    for i, stage in enumerate(fmt.stages[: at + 1]):
        ask = f"Write the {stage.name} now, and nothing else: {stage_purpose(i, question, fmt)}."
        if turns:
            turns.append(Message("user", ask))
        else:
            turns.append(Message("user", f"{opening}\n\n{ask}", question.images))
        if i < at:
            turns.append(
                Message("assistant", given[stage.name] or "-")
            )  # many templates refuse an empty turn
    return Prompt(tuple(turns))


def stage_text(reply: str, stage: Stage, fmt: StageFormat) -> str:
    """The text of a stage in a reply: between its tags, or before any other tag, or all of it.

    A heading with the stage's name is left out.
    """
    tags = find_tags(reply, fmt.pairs)
    if tags:
        given = parse(reply, fmt).stages[stage.name]
        before = reply[: tags[0].start].strip()
        reply = given or before or without_tags(reply, fmt, " ")
    text = without_tags(reply, fmt, " ")
    heading = re.match(rf"[#*_\s]*{re.escape(stage.name)}[*_\s]*(?::[*_\s]*|\n\s*)", text, re.IGNORECASE)
    return (text[heading.end() :] if heading else text).strip()
