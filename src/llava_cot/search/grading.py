"""A judge's scores of candidates, each looked at by itself. Knows no concrete judge."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from llava_cot.core.trace import Candidate, Score
from llava_cot.search.judges.base import Grade, Judge
from llava_cot.search.search import Recorder, text_of


async def grade(
    record: Recorder,
    judge: Judge,
    candidates: Sequence[Candidate],
    rng: random.Random,
    known: dict[str, Grade] | None = None,
) -> list[float]:
    """The candidates' scores, in their order, all asked for at once; the same path is asked about once.

    A judge sees each after the text that it goes on from. `known` are the grades of earlier calls by path,
    to which those of this one are added. Raises ModelError.
    """
    grades = {} if known is None else known
    texts = [text_of(record.line(candidate)).strip() for candidate in candidates]
    first = dict(zip(reversed(texts), reversed(candidates), strict=True))
    seeds = {text: rng.getrandbits(63) for text in dict.fromkeys(texts) if text not in grades}

    async def ask(text: str) -> None:
        candidate = first[text]
        before = text_of(record.line(candidate)[:-1])
        found = await judge.score(record.question, candidate.stage, before, candidate, seed=seeds[text])
        record.spend(found.usage)
        grades[text] = found

    await asyncio.gather(*map(ask, seeds))
    for text, candidate in zip(texts, candidates, strict=True):
        record.score(
            Score(
                candidate=candidate.id,
                value=grades[text].value,
                round=record.round,
                stage=record.stage,
                judge=judge.name,
                reply=grades[text].reply,
            )
        )
    return [grades[text].value for text in texts]
