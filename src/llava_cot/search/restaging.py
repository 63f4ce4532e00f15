"""From text that was not written in stages to a staged answer, for methods that work by prompt alone.

Which stage a thought or a description becomes, how the answer is read from the end of a text, and the call
that requests an answer that cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from llava_cot.core.question import answer_form
from llava_cot.core.stages import StageFormat, parse, render, without_tags
from llava_cot.core.tags import find_tags
from llava_cot.models.base import Continuation, Message, Model, Prompt
from llava_cot.search.search import Search

# How a text is to end, so that `read_answer` finds what it answers: one of "The answer is 2.", "Answer: 2".
_LEAD = re.compile(
    r"(?:\b(?:so|thus|hence|therefore),?\s+)?(?:\bthe\s+)?(?:\b(?:final|correct|right)\s+)?"
    r"\banswer(?:\s+is\b(?!\s+not\b)\s*:?|[\s*_]*:)",
    re.IGNORECASE,
)
_DRESS = " \t*_`\"'"
_NEXT_SENTENCE = re.compile(r"[.!?]\s")
_OPTION = re.compile(r"\(?[A-Z][.)]\s")


def thought_stage(fmt: StageFormat) -> str | None:
    """The stage for a chain of thought: "reasoning", else the last before the final one; None for neither."""
    before = _before(fmt.final, fmt)
    return "reasoning" if "reasoning" in before else before[-1] if before else None


def description_stage(fmt: StageFormat) -> str | None:
    """The stage for a description: "caption", else the one right before the thought's; None for neither."""
    thought = thought_stage(fmt)
    before = () if thought is None else _before(thought, fmt)
    return "caption" if "caption" in before else before[-1] if before else None


def _before(stage: str, fmt: StageFormat) -> tuple[str, ...]:
    return fmt.names[: fmt.names.index(stage)]


def in_stages(text: str, fmt: StageFormat) -> bool:
    """Whether a model wrote stages by itself, as one that was trained on them does at any prompt."""
    return bool(find_tags(text, fmt.pairs))


def plain(text: str, fmt: StageFormat, stage: str | None) -> str:
    """The text without tags; only that of `stage` where it is in stages and has that one."""
    if not in_stages(text, fmt):
        return text.strip()
    found = parse(text, fmt).stages.get(stage) if stage else None
    return found or without_tags(text, fmt, " ")


def read_answer(text: str) -> tuple[str, str | None]:
    """What a text says before its answer, and the answer it ends with: "... So the answer is 2.".

    The text is given whole, unless it is nothing but its answer. The answer is None where the text does not
    end with one sentence that gives it; a letter may have its option after it ("B. left").
    """
    text = text.strip()
    lines = [line for line in text.splitlines() if line.strip()]
    end = "\n".join(lines[-2:])
    leads = list(_LEAD.finditer(end))
    if not leads:
        return text, None
    lead = leads[-1]
    answer = end[lead.end() :].strip(_DRESS + "\n")
    if "\n" in answer or (_NEXT_SENTENCE.search(answer) and not _OPTION.match(answer)):
        return text, None
    answer = answer.removesuffix(".").strip(_DRESS)
    if not answer:
        return text, None
    only = len(lines) <= 2 and not end[: lead.start()].strip(_DRESS + "\n#")
    return ("" if only else text), answer


def keep_as(search: Search, sampled: Continuation, texts: Mapping[str | None, str | None]) -> None:
    """Record a sample and make it part of the answer, as stages with these texts.

    Args:
        search: The search.
        sampled: The sample.
        texts: By stage name. A text under None belongs to no stage and is left out. If nothing else remains,
            the sample is recorded as it was sampled, and not kept.
    """
    stripped = {name: without_tags(text or "", search.fmt, " ") for name, text in texts.items()}
    stages = {name: text for name, text in stripped.items() if name is not None and text}
    if not stages:
        search.add(sampled)
        return
    gap = "\n\n" if search.text else ""
    search.keep(search.add(replace(sampled, text=gap + render(stages, search.fmt), tokens=())))
    search.partial = True


async def keep_thought(
    search: Search,
    sampled: Continuation,
    thought: str,
    answer: str | None,
    messages: tuple[Message, ...],
    model: Model | None = None,
) -> None:
    """Keep a thought and its answer; without an answer, the model is called for it, after `messages`.

    In a format without a stage for it the thought is in the trace alone, and the model is called.
    """
    stage = thought_stage(search.fmt)
    if stage is None and thought:
        answer = None
    keep_as(search, sampled, {stage: thought, search.fmt.final: answer})
    if answer is None:
        await request_answer(search, messages, sampled.text, model)


async def request_answer(
    search: Search, messages: tuple[Message, ...], thought: str, model: Model | None = None
) -> None:
    """One more call, after `messages` and the thought, whose reply becomes the final stage.

    The second prompt of arXiv 2205.11916 (section 3), as a turn of its own.
    """
    search.start(search.fmt.final)
    request = f"Therefore, what is the answer? Give {answer_form(search.question)}."
    *others, last = messages
    if thought.strip():
        turns = (*messages, Message("assistant", thought.strip()), Message("user", request))
    else:  # many chat templates refuse a turn without text
        turns = (*others, replace(last, text=f"{last.text}\n\n{request}"))
    reply = await search.reply(Prompt(turns), model=model)
    text = plain(reply.text, search.fmt, search.fmt.final)
    keep_as(search, reply, {search.fmt.final: read_answer(text)[1] or text})
