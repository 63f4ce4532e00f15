"""Training data for the self-judge, from a model's own samples on a question whose answer is known.

Owns what a candidate is worth and which examples are made of it: a candidate of a stage is worth the share of
the answers that go on from it and come out right. Knows models by their protocol, and no files.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from string import ascii_uppercase

from llava_cot.data.records import Record, Turn
from llava_cot.judges.base import earlier
from llava_cot.judges.prompts import CHOICE, check_prompt, judge_prompt
from llava_cot.models.base import Model, Prompt, Sampling
from llava_cot.question import LoadedImage
from llava_cot.stages import LLAVA_COT, StageFormat, parse


@dataclass(frozen=True)
class Settings:
    """`n` candidates a stage, each tried by `rollouts` answers; a duel is between two whose worth differs by
    `margin` or more."""

    n: int = 4
    rollouts: int = 4
    margin: float = 0.5
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class Tried:
    """A candidate: the answer up to its end, its own text, and its worth from 0 to 1."""

    prefix: str
    text: str
    worth: float


async def duels(
    model: Model,
    record: Record,
    images: Sequence[LoadedImage],
    settings: Settings,
    seed: int,
    fmt: StageFormat = LLAVA_COT,
) -> list[Record]:
    """Examples of the record's first question that has an answer: a duel a stage, and checks of reasonings.

    The stages go on from the best candidate, as a search would. A duel's order is by chance.
    """
    turn = next((turn for turn in record.turns if turn.answer), None)
    if turn is None:
        return []
    rng = random.Random(f"{seed}/{record.id}")
    made: list[Record] = []
    prefix = ""
    for stage in fmt.stages:
        tried = await _tried(model, turn, images, prefix, stage.name, settings, fmt, rng.getrandbits(31))
        if not tried:
            break
        best, worst = tried[0], tried[-1]
        context = earlier(stage.name, prefix, fmt)
        if best.worth - worst.worth >= settings.margin:
            first, second = (best, worst) if rng.random() < 0.5 else (worst, best)
            number = 1 if first is best else 2
            asked = judge_prompt(stage.name, turn.text, context, first.text, second.text)
            said = f"Since response {number} leads to the right answer, {CHOICE} {number}."
            made.append(_example(record, f"{stage.name}-duel", asked, said, pictures=True))
        if stage.name == "reasoning":
            made += _checks(record, turn, context.get("caption"), best, worst)
        prefix = best.prefix
    return made


async def _tried(
    model: Model,
    turn: Turn,
    images: Sequence[LoadedImage],
    prefix: str,
    stage: str,
    settings: Settings,
    fmt: StageFormat,
    seed: int,
) -> list[Tried]:
    """The candidates of a stage that are whole, each once, the best first."""
    prompt = Prompt.of(turn.text, images, prefix)
    sampling = replace(settings.sampling, stop=(fmt.stage(stage).close,), seed=seed)
    written = await model.sample(prompt, settings.n, sampling)
    found: dict[str, str] = {}
    for one in written:
        text = parse(one.text, fmt).stages[stage]
        if one.finish == "stop" and text:
            found.setdefault(text, prefix + one.text)
    worths = await asyncio.gather(
        *(_worth(model, turn, images, whole, stage, settings, fmt, seed) for whole in found.values())
    )
    tried = [Tried(whole, text, w) for (text, whole), w in zip(found.items(), worths, strict=True)]
    return sorted(tried, key=lambda one: one.worth, reverse=True)


async def _worth(
    model: Model,
    turn: Turn,
    images: Sequence[LoadedImage],
    whole: str,
    stage: str,
    settings: Settings,
    fmt: StageFormat,
    seed: int,
) -> float:
    if stage == fmt.final:
        return float(is_right(parse(whole, fmt).answer, turn))
    sampling = replace(settings.sampling, stop=(fmt.stage(fmt.final).close,), seed=seed)
    rest = await model.sample(Prompt.of(turn.text, images, whole), settings.rollouts, sampling)
    right = [is_right(parse(whole + one.text, fmt).answer, turn) for one in rest]
    return sum(right) / len(right)


def _checks(record: Record, turn: Turn, caption: str | None, best: Tried, worst: Tried) -> list[Record]:
    """A reasoning that always came out right, and one that never did; shown without the picture."""
    made = []
    for one, worth, said in (
        (best, 1.0, "Each step follows. Verdict: correct."),
        (worst, 0.0, "It does not lead to the right answer. Verdict: incorrect."),
    ):
        if one.worth == worth:
            asked = check_prompt(turn.text, caption, one.text)
            made.append(_example(record, f"check-{worth:.0f}", asked, said, pictures=False))
    return made


def _example(record: Record, kind: str, asked: str, said: str, pictures: bool) -> Record:
    return Record(
        id=f"{record.id}/{kind}",
        turns=(Turn(asked, response=said),),
        pictures=record.pictures if pictures else (),
        source=record.source,
        licence=record.licence,
        extra={"kind": kind},
    )


def is_right(answer: str | None, turn: Turn) -> bool:
    """Whether an answer is the standard one: in the same words, or the same option by letter or text."""
    return answer is not None and _plain(answer, turn) == _plain(turn.answer or "", turn)


def _plain(text: str, turn: Turn) -> str:
    """Lower case, without white space, an article or punctuation at the ends; an option as its letter."""
    words = re.sub(r"^(the|an|a) ", "", " ".join(text.casefold().split()).strip(" .,;:!()*\"'"))
    letters = dict(zip(ascii_uppercase, turn.options, strict=False))
    for letter, option in letters.items():
        told = " ".join(option.casefold().split()).strip(" .")
        if words in (told, letter.casefold()) or re.fullmatch(
            rf"{letter.casefold()}[.):]\s*{re.escape(told)}", words
        ):
            return letter.casefold()
    return words
