"""Annotating one record: the calls to the teacher, each made once, and which replies are accepted.

After the appendix of arXiv 2411.10440: the teacher gets pictures, question, standard answer and hints; the
format is checked; a second call judges whether the conclusion means the same as the standard answer and is no
refusal; after two attempts the turn is rejected.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from llava_cot.core.stages import parse, render, validate
from llava_cot.core.wording import PLACE, shown_places
from llava_cot.data.annotation.teachers import Images, Teacher, TeacherReply, same
from llava_cot.data.checks.giveaways import leaks
from llava_cot.data.record import Record, Turn
from llava_cot.data.store import Store
from llava_cot.errors import (
    AnnotationStopped,
    DataError,
    ImageError,
    ModelError,
    ModelFailure,
    ModelRefusal,
    ModelUnavailable,
    TeacherDeclined,
)
from llava_cot.models.base import seed_of
from llava_cot.search.judge_prompts import parse_check

ATTEMPTS = 2  # the paper's
Call = Literal["write", "judge"]
Why = Literal[
    "no answer",
    "not the teacher's",
    "picture",
    "refused",
    "refusal",
    "cut",
    "format",
    "leak",
    "conclusion",
    "no verdict",
]
# Tried again when work is resumed: it has cost nothing, and the picture or the server may be repaired.
RETRIED: tuple[Why, ...] = ("picture", "refused")
_RECORD = "record"
_MONEY = re.compile(r"\$\s*(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)\s*(?:usd|\$)", re.IGNORECASE)


def call_kind(call: Call, attempt: int) -> str:
    """The store's kind of such calls. Their key is the record's, with the turn's number."""
    return f"{call} {attempt}"


CALL_KINDS = tuple(
    call_kind(call, attempt) for attempt in range(1, ATTEMPTS + 1) for call in ("write", "judge")
)


@dataclass(frozen=True)
class AnnotationBudget:
    """The most that a set may cost, over all runs: US dollars, or questions put to the teacher."""

    usd: float | None = None
    questions: int | None = None


def parse_budget(text: str) -> AnnotationBudget:
    """The budget of "5usd", "$5" or "200". Raises DataError."""
    money = _MONEY.fullmatch(text.strip())
    if money is not None:
        return AnnotationBudget(usd=float(money[1] or money[2]))
    if re.fullmatch(r"\d{1,12}", text.strip()):
        return AnnotationBudget(questions=int(text))
    raise DataError(f"the budget {text!r} is neither money, as in 5usd, nor a number of questions, as in 200")


@dataclass(frozen=True)
class CallCost:
    """What calls cost; `usd` is None if none of them had a price."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = None


def cost_of(store: Store, kinds: tuple[str, ...] = CALL_KINDS) -> CallCost:
    """The cost of the calls in a store."""
    counts = store.counts()

    def total(name: str) -> float:
        return sum(store.total(kind, name) for kind in kinds)

    usd = total("usd")
    calls = sum(counts.get(kind, 0) for kind in kinds)
    return CallCost(calls, int(total("prompt_tokens")), int(total("completion_tokens")), usd or None)


class TeacherCalls:
    """Calls whose replies are saved in a store, within a budget.

    `stop` says why no more calls are made, and `full` why no further question is begun, once that is so.
    """

    def __init__(self, store: Store, budget: AnnotationBudget) -> None:
        self._store, self._budget = store, budget
        self._begun = store.counts().get(call_kind("write", 1), 0)
        self.usd = cost_of(store).usd or 0.0
        self.stop: str | None = None
        self.full: str | None = None

    @property
    def ended(self) -> str | None:
        """Why no further question is taken."""
        return self.stop or self.full

    async def make(
        self, key: str, call: Call, attempt: int, ask: Callable[[], Awaitable[TeacherReply]]
    ) -> TeacherReply:
        """The reply to a call, from the store if it is there. Raises AnnotationStopped, and like `ask`.

        A refusal of the model is saved like a reply: it may have cost as much.
        """
        kind = call_kind(call, attempt)
        known = self._store.get(key, kind)
        if known is not None:
            with self._store.reading():
                refusal = known.get("refusal")
                saved = None if refusal is not None else TeacherReply(**known)
            if saved is None:
                raise ModelRefusal(str(refusal))
            return saved
        begins = kind == call_kind("write", 1)
        self._check_budget(begins)
        self._begun += begins
        try:
            reply = await ask()
        except ModelRefusal as refusal:
            self._store.put(key, kind, {"refusal": str(refusal)})
            raise
        except BaseException:
            self._begun -= begins
            raise
        self._store.put(key, kind, vars(reply))
        self.usd += reply.usd or 0.0
        return reply

    def _check_budget(self, begins: bool) -> None:
        usd, questions = self._budget.usd, self._budget.questions
        if self.stop is None and usd is not None and self.usd >= usd:
            self.stop = f"the budget of ${usd:g} is spent"
        if self.stop is not None:
            raise AnnotationStopped(self.stop)
        if begins and questions is not None and self._begun >= questions:
            self.full = f"the budget of {questions:,} questions is spent"
            raise AnnotationStopped(self.full)


@dataclass(frozen=True)
class TurnOutcome:
    """The outcome of one turn: its stages and conclusion, or why it is rejected, by kind and in words."""

    text: str | None = None
    why: Why | None = None
    reason: str = ""
    conclusion: str = ""


def saved_outcomes(store: Store, key: str) -> list[TurnOutcome] | None:
    """The outcomes of a record's turns; None if it is pending."""
    saved = store.get(key, _RECORD)
    with store.reading():
        return None if saved is None else [TurnOutcome(**turn) for turn in saved]


def save_outcomes(store: Store, key: str, outcomes: list[TurnOutcome]) -> None:
    """Save the outcomes of a record's turns."""
    saved: list[dict[str, Any]] = [
        {"text": turn.text} if turn.text is not None else {"why": turn.why, "reason": turn.reason}
        for turn in outcomes
    ]
    store.put(key, _RECORD, saved)


async def annotate_turns(
    record: Record, key: str, teacher: Teacher, calls: TeacherCalls, images: Images
) -> list[TurnOutcome]:
    """Annotate each turn of a record, in order. The teacher sees the earlier turns that were not rejected.

    Raises ModelFailure, ModelUnavailable and AnnotationStopped; the replies until then are saved.
    """
    outcomes: list[TurnOutcome] = []
    earlier: list[tuple[str, str]] = []
    for number in range(len(record.turns)):
        try:
            outcome = await _turn(record, number, key, teacher, calls, earlier, images)
        except TeacherDeclined as declined:
            outcome = TurnOutcome(why="not the teacher's", reason=str(declined))
        except ImageError as error:
            outcome = TurnOutcome(why="picture", reason=str(error))
        except (ModelFailure, ModelUnavailable):
            raise
        except ModelError as refusal:
            outcome = TurnOutcome(why="refused", reason=str(refusal))
        outcomes.append(outcome)
        if outcome.text is not None:
            earlier.append((record.turns[number].text, outcome.text))
        else:
            record = _shown_later(record, number)
    return outcomes


def _shown_later(record: Record, number: int) -> Record:
    """The record with the places of a rejected turn's pictures in front of the next turn."""
    turns = list(record.turns)
    if (places := turns[number].text.count(PLACE)) and number + 1 < len(turns):
        turns[number + 1] = replace(turns[number + 1], question=PLACE * places + turns[number + 1].question)
        turns[number] = replace(turns[number], question=shown_places(turns[number].question), options=())
    return replace(record, turns=tuple(turns))


async def _turn(
    record: Record,
    number: int,
    key: str,
    teacher: Teacher,
    calls: TeacherCalls,
    earlier: list[tuple[str, str]],
    images: Images,
) -> TurnOutcome:
    turn, name = record.turns[number], f"{key} {number}"
    if turn.answer is None or not turn.answer.strip():
        return TurnOutcome(why="no answer", reason="it has no standard answer, so nothing could be checked")
    outcome = TurnOutcome()
    for attempt in range(1, ATTEMPTS + 1):
        seed = seed_of(name, attempt)
        write = partial(teacher.write, record, number, earlier, images, seed)
        try:
            outcome = _check_form(await calls.make(name, "write", attempt, write), turn)
            if outcome.text is None:
                continue
            conclusion = outcome.conclusion
            if same(conclusion, turn):
                return outcome
            judge = partial(teacher.judge, record, number, conclusion, seed)
            rejected = _check_meaning(await calls.make(name, "judge", attempt, judge), conclusion)
        except ModelRefusal as refusal:
            rejected = TurnOutcome(why="refusal", reason=str(refusal))
        if rejected is None:
            return outcome
        outcome = rejected
    return outcome


def _check_form(written: TeacherReply, turn: Turn) -> TurnOutcome:
    departures = validate(written.text)
    if departures:
        if written.finish == "length":
            detail = departures[0].detail
            return TurnOutcome(why="cut", reason=f"{detail}; it was cut off at the limit of tokens")
        return TurnOutcome(why="format", reason=departures[0].detail)
    answer = parse(written.text)
    for _, words in leaks(answer, turn.text):
        return TurnOutcome(why="leak", reason=f"it speaks of what only the teacher was given: {words!r}")
    return TurnOutcome(render(answer), conclusion=answer.conclusion or "")


def _check_meaning(judged: TeacherReply, conclusion: str) -> TurnOutcome | None:
    """Why a conclusion is rejected, None if it is accepted. A verdict that cannot be read rejects it."""
    verdict = parse_check(judged.text)
    if verdict is None:
        return TurnOutcome(why="no verdict", reason=f"the verdict cannot be read: {judged.text[-200:]!r}")
    if verdict:
        return None
    return TurnOutcome(why="conclusion", reason=f"{conclusion[:200]!r} was judged to be another answer")
