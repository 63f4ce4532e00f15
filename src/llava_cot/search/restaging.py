"""From text that was not written in stages to a staged answer, for methods that work by prompt alone.

Owns which stage a thought and a description become, how the answer is read from the end of a text, and the
call that asks for an answer that cannot be read. Knows no method.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import replace
from string import ascii_uppercase

from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat, parse, render
from llava_cot.core.tags import find_tags
from llava_cot.models.base import Continuation, Message, Model, Prompt, Sampling
from llava_cot.search.methods.base import one_sample
from llava_cot.search.search import Recorder

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
    """Whether a model wrote stages by itself, as one that was trained on them does whatever it is asked."""
    return bool(find_tags(text, fmt.pairs))


def plain(text: str, fmt: StageFormat, stage: str | None) -> str:
    """The text without tags; only that of `stage` where it is in stages and has that one."""
    if not in_stages(text, fmt):
        return text.strip()
    found = parse(text, fmt).stages.get(stage) if stage else None
    return found or _without_tags(text, fmt)


def _without_tags(text: str, fmt: StageFormat) -> str:
    while tags := find_tags(text, fmt.pairs):  # what stood around a tag may make up another one
        for tag in reversed(tags):
            text = text[: tag.start] + " " + text[tag.end :]
    return text.strip()


def brief(question: Question) -> str:
    """In which form an answer is asked for."""
    letters = ascii_uppercase[: len(question.options)]
    if not letters:
        return "the answer alone, as briefly as the question allows"
    named = f"{', '.join(letters[:-1])} or {letters[-1]}" if len(letters) > 1 else letters
    return f"the letter of the right option alone: {named}"


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


def keep_as(record: Recorder, sampled: Continuation, texts: Mapping[str | None, str | None]) -> None:
    """Record a sample and make it part of the answer, as stages with these texts, by the stages' names.

    A text of no stage (None) is in none; where nothing else is left, the sample stays in the trace as it was
    sampled, and is not kept.
    """
    plainly = {name: _without_tags(text or "", record.fmt) for name, text in texts.items()}
    stages = {name: text for name, text in plainly.items() if name is not None and text}
    if not stages:
        record.add(sampled)
        return
    written = render(stages, record.fmt)
    apart = "\n\n" if record.text else ""
    record.keep(record.add(replace(sampled, text=apart + written, tokens=())))


async def keep_thought(
    record: Recorder,
    sampled: Continuation,
    thought: str,
    answer: str | None,
    model: Model,
    messages: tuple[Message, ...],
    sampling: Sampling,
    rng: random.Random,
) -> None:
    """Keep a thought and its answer; where there is none, the model is asked for it, after `messages`.

    In a format without a stage for it the thought stays in the trace alone, and the answer is asked for.
    """
    stage = thought_stage(record.fmt)
    if stage is None and thought:
        answer = None
    keep_as(record, sampled, {stage: thought, record.fmt.final: answer})
    if answer is None:
        await ask_answer(record, model, messages, sampled.text, sampling, rng)


async def ask_answer(
    record: Recorder,
    model: Model,
    messages: tuple[Message, ...],
    thought: str,
    sampling: Sampling,
    rng: random.Random,
) -> None:
    """One more call, after `messages` and the thought: what is the answer? It becomes the final stage.

    The second prompt of arXiv 2205.11916 (section 3), put as a turn of its own.
    """
    record.start(record.fmt.final)
    ask = f"Therefore, what is the answer? Give {brief(record.question)}."
    *others, last = messages
    if thought.strip():
        turns = (*messages, Message("assistant", thought.strip()), Message("user", ask))
    else:  # many a chat template refuses a turn without words
        turns = (*others, replace(last, text=f"{last.text}\n\n{ask}"))
    settings = replace(sampling, seed=rng.getrandbits(63))
    reply = await one_sample(model, Prompt(turns), settings)
    said = plain(reply.text, record.fmt, record.fmt.final)
    keep_as(record, reply, {record.fmt.final: read_answer(said)[1] or said})
