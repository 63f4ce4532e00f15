"""What a teacher is asked about one conversation, and what is taken of its replies.

Owns the order of calls and the reasons to reject. Knows the teacher by its protocol, and no file.

After the appendix of arXiv 2411.10440: the teacher is shown pictures, question, standard answer and hints;
the format is checked; a second call judges whether the conclusion means the same as the standard answer and
is no refusal; at most two attempts, then the turn is rejected.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from llava_cot.core.stages import parse, render, validate
from llava_cot.data.annotation.calls import ATTEMPTS, Calls
from llava_cot.data.annotation.teachers import Images, Reply, Teacher, Unteachable
from llava_cot.data.annotation.teaching import same
from llava_cot.data.checks.giveaways import leaks
from llava_cot.data.record import Record, Turn
from llava_cot.errors import ImageError, ModelError, ModelFailure
from llava_cot.models.base import seed_of
from llava_cot.search.judge_prompts import parse_check

Why = Literal[
    "no answer", "not the teacher's", "picture", "refused", "format", "leak", "conclusion", "no verdict"
]
# What the next run tries again: it has cost nothing, and the picture may be mended, the server set right.
AGAIN: tuple[Why, ...] = ("picture", "refused")


@dataclass(frozen=True)
class Outcome:
    """What became of one turn: its stages and conclusion, or why it is rejected, in a word and at length."""

    text: str | None = None
    why: Why | None = None
    reason: str = ""
    conclusion: str = ""


async def conversation(
    record: Record, key: str, teacher: Teacher, calls: Calls, images: Images
) -> list[Outcome]:
    """What becomes of each turn, in order; each is shown the earlier ones that were not rejected.

    Raises ModelFailure and Stopped; the calls that were made until then are kept.
    """
    found: list[Outcome] = []
    earlier: list[tuple[str, str]] = []
    for number in range(len(record.turns)):
        try:
            outcome = await _turn(record, number, key, teacher, calls, earlier, images)
        except Unteachable as no:
            outcome = Outcome(why="not the teacher's", reason=str(no))
        except ImageError as error:
            outcome = Outcome(why="picture", reason=str(error))
        except ModelFailure:
            raise
        except ModelError as refusal:
            outcome = Outcome(why="refused", reason=str(refusal))
        found.append(outcome)
        if outcome.text is not None:
            earlier.append((record.turns[number].text, outcome.text))
    return found


async def _turn(
    record: Record,
    number: int,
    key: str,
    teacher: Teacher,
    calls: Calls,
    earlier: list[tuple[str, str]],
    images: Images,
) -> Outcome:
    turn, name = record.turns[number], f"{key} {number}"
    if turn.answer is None or not turn.answer.strip():
        return Outcome(why="no answer", reason="it has no standard answer, so nothing could be checked")
    outcome = Outcome()
    for attempt in range(1, ATTEMPTS + 1):
        seed = seed_of(name, attempt)
        write = partial(teacher.write, record, number, earlier, images, seed)
        outcome = _form(await calls.ask(name, "write", attempt, write), turn)
        if outcome.text is None:
            continue
        conclusion = outcome.conclusion
        if same(conclusion, turn):
            return outcome
        judge = partial(teacher.judge, record, number, conclusion, seed)
        refused = _meaning(await calls.ask(name, "judge", attempt, judge), conclusion)
        if refused is None:
            return outcome
        outcome = refused
    return outcome


def _form(written: Reply, turn: Turn) -> Outcome:
    """What was written in the one way of writing stages, or what is wrong with its form."""
    departures = validate(written.text)
    if departures:
        cut = "; it was cut off at the limit of tokens" if written.finish == "length" else ""
        return Outcome(why="format", reason=departures[0].detail + cut)
    answer = parse(written.text)
    for _, words in leaks(answer, turn.text):
        return Outcome(why="leak", reason=f"it speaks of what only the teacher was given: {words!r}")
    return Outcome(render(answer), conclusion=answer.conclusion or "")


def _meaning(judged: Reply, conclusion: str) -> Outcome | None:
    """Why a conclusion does not count, None if it does. A verdict that cannot be read is none."""
    verdict = parse_check(judged.text)
    if verdict is None:
        return Outcome(why="no verdict", reason=f"the verdict cannot be read: {judged.text[-200:]!r}")
    if verdict:
        return None
    return Outcome(why="conclusion", reason=f"{conclusion[:200]!r} was judged to be another answer")
