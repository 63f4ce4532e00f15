"""What a teacher is asked about one conversation, and what is taken of its replies.

Owns the order of calls and the reasons to reject. Knows the teacher by its protocol, and no file.

After the appendix of arXiv 2411.10440: the teacher is shown pictures, question, standard answer and hints;
the format is checked; a second call judges whether the conclusion means the same as the standard answer and
is no refusal; at most two attempts, then the turn is rejected.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from llava_cot.core.stages import parse, render, validate
from llava_cot.data.annotation.teachers import Images, Teacher, TeacherReply, Unteachable, same
from llava_cot.data.checks.giveaways import leaks
from llava_cot.data.record import Record, Turn
from llava_cot.data.store import Store
from llava_cot.errors import DataError, ImageError, ModelError, ModelFailure
from llava_cot.models.base import seed_of
from llava_cot.search.judge_prompts import parse_check

Why = Literal[
    "no answer", "not the teacher's", "picture", "refused", "format", "leak", "conclusion", "no verdict"
]
# What the next run tries again: it has cost nothing, and the picture may be mended, the server set right.
AGAIN: tuple[Why, ...] = ("picture", "refused")


@dataclass(frozen=True)
class TurnOutcome:
    """What became of one turn: its stages and conclusion, or why it is rejected, in a word and at length."""

    text: str | None = None
    why: Why | None = None
    reason: str = ""
    conclusion: str = ""


async def conversation(
    record: Record, key: str, teacher: Teacher, calls: TeacherCalls, images: Images
) -> list[TurnOutcome]:
    """What becomes of each turn, in order; each is shown the earlier ones that were not rejected.

    Raises ModelFailure and Stopped; the calls that were made until then are kept.
    """
    found: list[TurnOutcome] = []
    earlier: list[tuple[str, str]] = []
    for number in range(len(record.turns)):
        try:
            outcome = await _turn(record, number, key, teacher, calls, earlier, images)
        except Unteachable as no:
            outcome = TurnOutcome(why="not the teacher's", reason=str(no))
        except ImageError as error:
            outcome = TurnOutcome(why="picture", reason=str(error))
        except ModelFailure:
            raise
        except ModelError as refusal:
            outcome = TurnOutcome(why="refused", reason=str(refusal))
        found.append(outcome)
        if outcome.text is not None:
            earlier.append((record.turns[number].text, outcome.text))
    return found


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


def _form(written: TeacherReply, turn: Turn) -> TurnOutcome:
    """What was written in the one way of writing stages, or what is wrong with its form."""
    departures = validate(written.text)
    if departures:
        cut = "; it was cut off at the limit of tokens" if written.finish == "length" else ""
        return TurnOutcome(why="format", reason=departures[0].detail + cut)
    answer = parse(written.text)
    for _, words in leaks(answer, turn.text):
        return TurnOutcome(why="leak", reason=f"it speaks of what only the teacher was given: {words!r}")
    return TurnOutcome(render(answer), conclusion=answer.conclusion or "")


def _meaning(judged: TeacherReply, conclusion: str) -> TurnOutcome | None:
    """Why a conclusion does not count, None if it does. A verdict that cannot be read is none."""
    verdict = parse_check(judged.text)
    if verdict is None:
        return TurnOutcome(why="no verdict", reason=f"the verdict cannot be read: {judged.text[-200:]!r}")
    if verdict:
        return None
    return TurnOutcome(why="conclusion", reason=f"{conclusion[:200]!r} was judged to be another answer")


OUTCOME_KIND = "record"  # the store's kind for what became of a record


def outcomes(store: Store, key: str) -> list[TurnOutcome] | None:
    """What became of the record's turns, None if it is still owed."""
    kept = store.get(key, OUTCOME_KIND)
    return None if kept is None else [TurnOutcome(**turn) for turn in kept]


ATTEMPTS = 2  # the paper's
What = Literal["write", "judge"]
_MONEY = re.compile(r"\$\s*(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)\s*(?:usd|\$)", re.IGNORECASE)


def call_kind(what: What, attempt: int) -> str:
    """The store's name for such calls. Their key is the record's and the turn's number."""
    return f"{what} {attempt}"


CALL_KINDS = tuple(
    call_kind(what, attempt) for attempt in range(1, ATTEMPTS + 1) for what in ("write", "judge")
)


class AnnotationStopped(Exception):
    """No more is to be asked; the message says why."""


@dataclass(frozen=True)
class AnnotationBudget:
    """The most that a set may cost, over all runs: US dollars, or questions that were put to the teacher."""

    usd: float | None = None
    questions: int | None = None


def parse_budget(text: str) -> AnnotationBudget:
    """From "5usd", "$5" or "200". Raises DataError."""
    money = _MONEY.fullmatch(text.strip())
    if money is not None:
        return AnnotationBudget(usd=float(money[1] or money[2]))
    if re.fullmatch(r"\d{1,12}", text.strip()):
        return AnnotationBudget(questions=int(text))
    raise DataError(f"the budget {text!r} is neither money, as in 5usd, nor a number of questions, as in 200")


@dataclass(frozen=True)
class CallCost:
    """What calls took; `usd` is None where none of them had a price."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = None


def cost_of(store: Store, kinds: tuple[str, ...] = CALL_KINDS) -> CallCost:
    """What the calls in a store took."""
    counts = store.counts()

    def total(name: str) -> float:
        return sum(store.total(each, name) for each in kinds)

    usd = total("usd")
    calls = sum(counts.get(each, 0) for each in kinds)
    return CallCost(calls, int(total("prompt_tokens")), int(total("completion_tokens")), usd or None)


class TeacherCalls:
    """Calls that are kept in a store.

    `stop` holds, once there is one, the reason why no more are made, `full` why no further question is begun.
    """

    def __init__(self, store: Store, budget: AnnotationBudget) -> None:
        self._store, self._budget = store, budget
        self._begun = store.counts().get(call_kind("write", 1), 0)
        self.usd = cost_of(store).usd or 0.0
        self.stop: str | None = None
        self.full: str | None = None

    @property
    def ended(self) -> str | None:
        """Why no further question is to be taken."""
        return self.stop or self.full

    async def ask(
        self, key: str, what: What, attempt: int, call: Callable[[], Awaitable[TeacherReply]]
    ) -> TeacherReply:
        """The reply to a call, from the store if it is there. Raises Stopped, and whatever `call` does."""
        name = call_kind(what, attempt)
        known = self._store.get(key, name)
        if known is not None:
            return TeacherReply(**known)
        begins = name == call_kind("write", 1)
        self._may_ask(begins)
        self._begun += begins
        try:
            reply = await call()
        except BaseException:
            self._begun -= begins
            raise
        self._store.put(key, name, vars(reply))
        self.usd += reply.usd or 0.0
        return reply

    def _may_ask(self, begins: bool) -> None:
        usd, questions = self._budget.usd, self._budget.questions
        if self.stop is None and usd is not None and self.usd >= usd:
            self.stop = f"the budget of ${usd:g} is spent"
        if self.stop is not None:
            raise AnnotationStopped(self.stop)
        if begins and questions is not None and self._begun >= questions:
            self.full = f"the budget of {questions:,} questions is spent"
            raise AnnotationStopped(self.full)
