"""A teacher's calls, each made once: what has been answered before comes from the store.

Owns the kinds of calls, what they have cost, and the bounds of that. Knows no prompt, record or schedule.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from llava_cot.data.annotation.teachers import Reply
from llava_cot.data.store import Store
from llava_cot.errors import DataError

ATTEMPTS = 2  # the paper's
What = Literal["write", "judge"]
_MONEY = re.compile(r"\$\s*(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)\s*(?:usd|\$)", re.IGNORECASE)


def kind(what: What, attempt: int) -> str:
    """The store's name for such calls. Their key is the record's and the turn's number."""
    return f"{what} {attempt}"


KINDS = tuple(kind(what, attempt) for attempt in range(1, ATTEMPTS + 1) for what in ("write", "judge"))


class Stopped(Exception):
    """No more is to be asked; the message says why."""


@dataclass(frozen=True)
class Budget:
    """The most that a set may cost, over all runs: US dollars, or questions that were put to the teacher."""

    usd: float | None = None
    questions: int | None = None


def parse_budget(text: str) -> Budget:
    """From "5usd", "$5" or "200". Raises DataError."""
    money = _MONEY.fullmatch(text.strip())
    if money is not None:
        return Budget(usd=float(money[1] or money[2]))
    if re.fullmatch(r"\d{1,12}", text.strip()):
        return Budget(questions=int(text))
    raise DataError(f"the budget {text!r} is neither money, as in 5usd, nor a number of questions, as in 200")


@dataclass(frozen=True)
class Cost:
    """What calls took; `usd` is None where none of them had a price."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = None


def cost_of(store: Store, kinds: tuple[str, ...] = KINDS) -> Cost:
    """What the calls in a store took."""
    counts = store.counts()

    def total(name: str) -> float:
        return sum(store.total(each, name) for each in kinds)

    usd = total("usd")
    calls = sum(counts.get(each, 0) for each in kinds)
    return Cost(calls, int(total("prompt_tokens")), int(total("completion_tokens")), usd or None)


class Calls:
    """Calls that are kept in a store.

    `stop` holds, once there is one, the reason why no more are made, `full` why no further question is begun.
    """

    def __init__(self, store: Store, budget: Budget) -> None:
        self._store, self._budget = store, budget
        self._begun = store.counts().get(kind("write", 1), 0)
        self.usd = cost_of(store).usd or 0.0
        self.stop: str | None = None
        self.full: str | None = None

    @property
    def ended(self) -> str | None:
        """Why no further question is to be taken."""
        return self.stop or self.full

    async def ask(self, key: str, what: What, attempt: int, call: Callable[[], Awaitable[Reply]]) -> Reply:
        """The reply to a call, from the store if it is there. Raises Stopped, and whatever `call` does."""
        name = kind(what, attempt)
        known = self._store.get(key, name)
        if known is not None:
            return Reply(**known)
        begins = name == kind("write", 1)
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
            raise Stopped(self.stop)
        if begins and questions is not None and self._begun >= questions:
            self.full = f"the budget of {questions:,} questions is spent"
            raise Stopped(self.full)
