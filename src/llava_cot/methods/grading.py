"""A judge's scores of candidates, each looked at by itself. Knows no concrete judge."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from llava_cot.judges.base import Judge
from llava_cot.record import Recorder, text_of
from llava_cot.trace import Candidate, Score


async def grade(
    record: Recorder, judge: Judge, candidates: Sequence[Candidate], rng: random.Random
) -> list[float]:
    """The candidates' scores, in their order, all asked for at once; the same path is asked about once.

    A judge sees each after the text that it goes on from. Raises ModelError.
    """
    texts = [text_of(record.line(candidate)).strip() for candidate in candidates]
    first = dict(zip(reversed(texts), reversed(candidates), strict=True))
    seeds = {text: rng.getrandbits(63) for text in dict.fromkeys(texts)}

    async def ask(text: str) -> float:
        candidate = first[text]
        before = text_of(record.line(candidate)[:-1])
        found = await judge.score(record.question, candidate.stage, before, candidate, seed=seeds[text])
        record.spend(found.usage)
        said[text] = found.reply
        return found.value

    said: dict[str, str] = {}
    asked = list(seeds)
    values = dict(zip(asked, await asyncio.gather(*map(ask, asked)), strict=True))
    for text, candidate in zip(texts, candidates, strict=True):
        record.score(
            Score(
                candidate=candidate.id,
                value=values[text],
                round=record.round,
                stage=record.stage,
                judge=judge.name,
                reply=said[text],
            )
        )
    return [values[text] for text in texts]
