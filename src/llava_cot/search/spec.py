"""A method in one word: `single`, `greedy`, `stage-beam-4`, `best-of-10@logits`, `stage-beam-8-within-600`.

Owns these words: how they are read and written wherever one names a method. Knows the methods and judges by
name alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from llava_cot.search.judges import JUDGES
from llava_cot.search.methods import METHODS

GREEDY = "greedy"  # single, at temperature 0
_ALSO = {"weighted-majority": "weighted-best-of-n"}  # one rule has two names
_NUMBERED = re.compile(r"([a-z-]+)-([1-9][0-9]{0,8})")
_WITHIN = re.compile(r"(.+)-within-([1-9][0-9]{0,8})")


@dataclass(frozen=True)
class Spec:
    """A method, its candidates and its judge (None where it asks none). `temperature` is None where the spec
    leaves it open, `budget` where there is no bound on the tokens of a question."""

    method: str
    n: int = 1
    judge: str | None = None
    temperature: float | None = None
    budget: int | None = None

    @property
    def name(self) -> str:
        """The one word for it, whichever way it was written; `parse_spec` gives the spec again."""
        if self.temperature is not None:
            return GREEDY
        kind = METHODS[self.method]
        return (
            (self.method if kind.one else f"{short(self.method)}-{self.n}")
            + ("" if self.budget is None else f"-within-{self.budget}")
            + ("" if self.judge in (None, kind.judge) else f"@{self.judge}")
        )


def parse_spec(text: str) -> Spec:
    """From METHOD, METHOD-N or METHOD-N@JUDGE; N and JUDGE are the method's own where they are left out.

    A budget of tokens stands behind N: stage-beam-8-within-600.

    Raises ValueError with a sentence.
    """
    words, at, judge = text.partition("@")
    if at and judge not in JUDGES:
        raise ValueError(f"{text!r} names the judge {judge!r}; choose one of {', '.join(JUDGES)}")
    within = _WITHIN.fullmatch(words)
    words, budget = (within[1], int(within[2])) if within else (words, None)
    numbered = _NUMBERED.fullmatch(words)
    name, number = (numbered[1], int(numbered[2])) if numbered and not _method(words) else (words, None)
    method = _method(name)
    if method is None:
        raise ValueError(
            f"there is no method {text!r}; choose one of {GREEDY}, "
            + ", ".join(known if kind.one else f"{short(known)}-N" for known, kind in METHODS.items())
            + " (N from 1)"
        )
    kind = METHODS[method]
    if at and kind.judge is None:
        raise ValueError(f"{text!r} names a judge, and {name} asks none; leave @{judge} out")
    if at and kind.scored and not JUDGES[judge].scores:
        raise ValueError(f"{text!r} names a judge that gives no scores, and {name} needs them")
    if at and kind.probability and not JUDGES[judge].probability:
        raise ValueError(
            f"{text!r} names a judge whose scores are no probabilities, and {name} goes by how sure it is"
        )
    if budget is not None and not kind.budgeted:
        raise ValueError(f"{text!r} names a budget, and {name} keeps to none; leave -within-{budget} out")
    if kind.one:
        if number not in (None, 1):
            raise ValueError(
                f"{text!r} asks for {number} candidates, and {name} is one answer; choose a search"
            )
        return Spec(method, judge=judge or kind.judge, temperature=0.0 if name == GREEDY else None)
    n = kind.n if number is None else number
    return Spec(method, n, judge or kind.judge, budget=budget)


def short(method: str) -> str:
    """`best-of-n` with its number is best-of-8, not best-of-n-8."""
    return method.removesuffix("-n")


def _method(name: str) -> str | None:
    known = {GREEDY: "single"} | {short(method): method for method in METHODS} | {m: m for m in METHODS}
    return known.get(_ALSO.get(name, name))
