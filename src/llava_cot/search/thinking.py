"""Models that think before they answer: the thinking and the answer are searched as two stages.

The model, or its chat template, opens the thinking, and the model closes it. The answer has no tags of its
own: we put them. Where the model goes on inside its thinking, this has bounds on both sides and is searched
by paragraphs; where it does not, a thought comes with the answer after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from llava_cot.core.question import question_text
from llava_cot.core.stages import SENTENCE, StageFormat
from llava_cot.core.trace import Candidate
from llava_cot.errors import ModelError
from llava_cot.models.base import (
    Continuation,
    OnText,
    Prompt,
    Sampling,
    continues_thinking,
    seed_of,
)
from llava_cot.search.stage_prompting import in_turns, joined, stage_text

if TYPE_CHECKING:
    from llava_cot.search.search import Search

# As with sentences, a mark stands before the white space, which a model drops where it stops there.
PARAGRAPH_ENDS = tuple(f"{mark}\n\n" for mark in ".!?")
# In place of a closing tag that comes too early: budget forcing (arXiv 2501.19393).
WAIT = "\n\nWait,"
_MOST_WAITS = 16
_FOR_THE_ANSWER = 4  # one in so many of a whole answer's tokens, where the thinking has no bound of its own

_Ids = tuple[int, ...] | None


async def think(
    search: Search, path: Sequence[Candidate], n: int, sampling: Sampling, on_text: OnText | None = None
) -> list[Continuation]:
    """n continuations of a path in this round's stage, by a model that thinks before it answers.

    Args:
        search: The search; its round is that of a stage, of a sentence, or of a whole answer.
        path: What they continue.
        n: How many.
        sampling: How to sample. Its stop strings are those of a model that writes stages by itself.
        on_text: Called with the text of the first one: its thinking as it is written, its answer when it is
            complete.

    Raises:
        ModelError: The thinking is to have a minimum, and the model does not go on inside it.
    """
    from llava_cot.search.search import text_of, tokens_of

    fmt, staged = search.fmt, bool(sampling.stop) and search.stage in search.fmt.names
    before, close, after = text_of(path).removeprefix(fmt.opening_tags[0]).partition(fmt.closing_tags[0])
    if not continues_thinking(search.model):
        if search.request.min_think_tokens:
            raise ModelError(
                f"{search.model.name} cannot go on inside its thinking, so that cannot have a minimum; drop "
                "--min-think-tokens"
            )
        return await _apart(search, text_of(path), n, sampling, whole=not staged and search.stage != SENTENCE)
    # As the model wrote it, after the opening tag.
    written, tokens = before + close + after.removeprefix(_lead(fmt)), tokens_of(path) if path else None
    if search.stage == SENTENCE and not close:
        return await _paragraphs(search, path, written, tokens, n, sampling)
    if search.stage == SENTENCE:
        return await _sentences(search, written, tokens, n, sampling, "" if after else _lead(fmt))
    if staged and search.stage != fmt.final:
        bound = min(search.request.think_tokens or sampling.max_tokens, sampling.max_tokens)
        return _opened(await _thoughts(search, n, sampling, bound, on_text), fmt)
    if staged:
        return await _answers(search, written if close else _closed(written, fmt), tokens, n, sampling)
    numbers = (replace(sampling, first=sampling.first + i) for i in range(n))
    whole = (_whole(search, one, None if i else on_text) for i, one in enumerate(numbers))
    return list(await asyncio.gather(*whole))


def _lead(fmt: StageFormat) -> str:
    return f"\n\n{fmt.opening_tags[1]}"


def _closed(text: str, fmt: StageFormat) -> str:
    return f"{text}\n{fmt.closing_tags[0]}"


def _opened(thoughts: Sequence[Continuation], fmt: StageFormat) -> list[Continuation]:
    """Thoughts as stages. Their ids stay those of what follows the opening tag."""
    return [replace(one, text=fmt.opening_tags[0] + one.text) for one in thoughts]


async def _draw(
    search: Search, text: str, tokens: _Ids, n: int, sampling: Sampling, on_text: OnText | None = None
) -> list[Continuation]:
    """n continuations of what the model wrote so far after the opening tag."""
    stage = search.fmt.stages[0]
    prompt = Prompt.of(question_text(search.question), search.question.images, text, tokens)
    return await search.draw(replace(prompt, thinking=(stage.open, stage.close)), n, sampling, on_text)


async def _thoughts(
    search: Search, n: int, sampling: Sampling, bound: int, on_text: OnText | None = None
) -> list[Continuation]:
    """n thoughts of at most `bound` tokens after the opening tag: one that is longer is cut and closed."""
    least, fmt = min(search.request.min_think_tokens or 0, bound), search.fmt
    live = None if least else on_text
    if on_text is not None:
        on_text(fmt.opening_tags[0])
    settings = replace(sampling, stop=fmt.closing_tags[:1], max_tokens=bound)
    found = await _draw(search, "", None, n, settings, live)
    if least:
        longer = (
            _longer(search, one, replace(settings, first=sampling.first + i), least)
            for i, one in enumerate(found)
        )
        found = list(await asyncio.gather(*longer))
    made = [_complete(one, search) for one in found]
    if on_text is not None:
        on_text(made[0].text.removeprefix(found[0].text if live else ""))
    return made


async def _longer(search: Search, reply: Continuation, sampling: Sampling, least: int) -> Continuation:
    """A thought that goes on at its closing tag while it is shorter than the minimum."""
    parts, text = [reply], reply.text
    for attempt in range(_MOST_WAITS):
        count = sum(part.completion_tokens for part in parts)
        if count >= least or parts[-1].finish == "length":
            break
        text = text.removesuffix(search.fmt.closing_tags[0]).rstrip() + WAIT
        settings = replace(
            sampling, seed=seed_of(sampling.seed, "wait", attempt), max_tokens=sampling.max_tokens - count
        )
        parts += await _draw(search, text, None, 1, settings)
        text += parts[-1].text
    whole = joined(search, parts)
    return reply if len(parts) == 1 else replace(whole, text=text, finish=parts[-1].finish)


def _complete(thought: Continuation, search: Search) -> Continuation:
    """A thought that ends with the closing tag; it was cut if it met a bound that nobody asked for."""
    if thought.text.endswith(search.fmt.closing_tags[0]):
        return replace(thought, finish="stop")
    wanted = thought.finish != "length" or search.request.think_tokens is not None
    text = _closed(thought.text, search.fmt)
    return replace(thought, text=text, tokens=(), finish="stop" if wanted else "length")


async def _answers(search: Search, text: str, tokens: _Ids, n: int, sampling: Sampling) -> list[Continuation]:
    """n answers after a thought."""
    found = await _draw(search, text, tokens, n, replace(sampling, stop=()))
    return [_as_answer(one, search.fmt) for one in found]


def _as_answer(reply: Continuation, fmt: StageFormat) -> Continuation:
    answer = reply.text.rpartition(fmt.closing_tags[0])[2]  # it may have thought again
    text = f"{_lead(fmt)} {stage_text(answer, fmt.stages[1], fmt)} {fmt.closing_tags[1]}"
    return replace(reply, text=text, tokens=(), finish="length" if reply.finish == "length" else "eos")


async def _whole(search: Search, sampling: Sampling, on_text: OnText | None) -> Continuation:
    """A thought and the answer after it, together of at most `max_tokens`."""
    [thought] = await _thoughts(search, 1, sampling, _bound(search, sampling.max_tokens), on_text)
    settings = replace(
        sampling,
        seed=seed_of(sampling.seed, "answer"),
        max_tokens=max(1, sampling.max_tokens - thought.completion_tokens),
    )
    [answer] = await _answers(search, thought.text, thought.tokens or None, 1, settings)
    if on_text is not None:
        on_text(answer.text)
    return joined(search, [*_opened([thought], search.fmt), answer])


def _bound(search: Search, most: int) -> int:
    """The most tokens of the thinking in an answer of at most `most`."""
    return max(1, min(search.request.think_tokens or most - most // _FOR_THE_ANSWER, most - 1))


async def _paragraphs(
    search: Search, path: Sequence[Candidate], text: str, tokens: _Ids, n: int, sampling: Sampling
) -> list[Continuation]:
    """n next paragraphs of the thinking."""
    fmt, close = search.fmt, search.fmt.closing_tags[0]
    before = sum(candidate.completion_tokens for candidate in path)
    bound = _bound(search, search.request.sampling.max_tokens)
    least = min(search.request.min_think_tokens or 0, bound)
    limit = max(1, min(bound - before, sampling.max_tokens))
    settings = replace(sampling, stop=(close, *PARAGRAPH_ENDS), max_tokens=limit)
    lead = "" if path else fmt.opening_tags[0]

    def paragraph(reply: Continuation) -> Continuation:
        ended = reply.text.endswith(close) or reply.finish == "eos"
        count = before + reply.completion_tokens
        if ended and count < least:
            begun = reply.text.removesuffix(close).rstrip() + WAIT
            return replace(reply, text=lead + begun, tokens=(), finish="stop")
        if ended or count >= bound or reply.finish == "length":
            made = _complete(reply, search)
            return replace(made, text=lead + made.text)
        return replace(reply, text=lead + reply.text)

    return [paragraph(one) for one in await _draw(search, text, tokens, n, settings)]


async def _sentences(
    search: Search, text: str, tokens: _Ids, n: int, sampling: Sampling, lead: str
) -> list[Continuation]:
    """n next sentences of the answer."""
    ends = tuple(end for end in sampling.stop if end not in search.fmt.closing_tags)

    def sentence(reply: Continuation) -> Continuation:
        words = reply.text.rpartition(search.fmt.closing_tags[0])[2]  # it may have thought again
        for tag in (search.fmt.opening_tags[1], search.fmt.closing_tags[1]):  # or put our tags itself
            words = words.replace(tag, "")
        if reply.finish != "stop":
            return replace(reply, text=f"{lead}{words.rstrip()} {search.fmt.closing_tags[1]}", tokens=())
        return replace(reply, text=lead + words, tokens=reply.tokens if words == reply.text else ())

    return [sentence(one) for one in await _draw(search, text, tokens, n, replace(sampling, stop=ends))]


async def _apart(search: Search, text: str, n: int, sampling: Sampling, whole: bool) -> list[Continuation]:
    """n thoughts with their answers, from a model that does not go on inside its thinking.

    After a thought that was cut, the answer is asked for in a turn of its own.
    """
    fmt, bounded = search.fmt, search.request.think_tokens is not None
    if fmt.closing_tags[0] in text:
        found = await search.draw(in_turns(search, text, 1), n, replace(sampling, stop=()))
        return [_as_answer(one, fmt) for one in found]
    bound = min(search.request.think_tokens or sampling.max_tokens, sampling.max_tokens)

    async def thought(reply: Continuation, number: int) -> Continuation:
        before, close, after = reply.text.partition(fmt.closing_tags[0])
        [made] = _opened([_complete(replace(reply, text=before + close), search)], fmt)
        if close and after.strip() and not (bounded and reply.finish == "length"):
            answer = _as_answer(replace(reply, text=after), fmt)
            return replace(answer, text=made.text + answer.text)
        if not whole:
            return made
        settings = replace(sampling, first=number, seed=seed_of(sampling.seed, "answer"))
        [answer] = await _apart(search, made.text, 1, settings, whole)
        return joined(search, [made, answer])

    replies = await _draw(search, "", None, n, replace(sampling, stop=(), max_tokens=bound))
    return list(await asyncio.gather(*(thought(one, sampling.first + i) for i, one in enumerate(replies))))
