"""A method in one word: `single`, `greedy`, `stage-beam-4`, `best-of-10@logits`, `majority-10`.

Owns these words: how they are read and written wherever one names a method. Knows the methods and judges by
name alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from llava_cot.judges import JUDGES
from llava_cot.methods import JUDGED, METHODS

GREEDY = "greedy"  # single, at temperature 0
_DEFAULT_N, _DEFAULT_JUDGE = 2, "self"  # as for `ask`
_NUMBERED = re.compile(r"([a-z-]+)-([1-9][0-9]{0,8})")


@dataclass(frozen=True)
class Spec:
    """A method, its candidates and its judge (None where it asks none). `temperature` is None where the spec
    leaves it open."""

    method: str
    n: int = 1
    judge: str | None = None
    temperature: float | None = None

    @property
    def name(self) -> str:
        """The one word for it, whichever way it was written; `parse_spec` gives the spec again."""
        if self.method == "single":
            return "single" if self.temperature is None else GREEDY
        judged = self.judge in (None, _DEFAULT_JUDGE)
        return f"{short(self.method)}-{self.n}" + ("" if judged else f"@{self.judge}")


def parse_spec(text: str) -> Spec:
    """From METHOD, METHOD-N or METHOD-N@JUDGE; N is 2 and JUDGE self where they are left out.

    Raises ValueError with a sentence.
    """
    words, at, judge = text.partition("@")
    if at and judge not in JUDGES:
        raise ValueError(f"{text!r} names the judge {judge!r}; choose one of {', '.join(JUDGES)}")
    numbered = _NUMBERED.fullmatch(words)
    name, number = (numbered[1], int(numbered[2])) if numbered and not _method(words) else (words, None)
    method = _method(name)
    if method is None:
        raise ValueError(
            f"there is no method {text!r}; choose one of single, {GREEDY}, "
            + ", ".join(f"{short(known)}-N" for known in METHODS if known != "single")
            + " (N from 1)"
        )
    if at and method not in JUDGED:
        raise ValueError(f"{text!r} names a judge, and {name} asks none; leave @{judge} out")
    if method == "single":
        if number not in (None, 1):
            raise ValueError(
                f"{text!r} asks for {number} candidates, and {name} is one answer; choose a search"
            )
        return Spec("single", temperature=0.0 if name == GREEDY else None)
    n = _DEFAULT_N if number is None else number
    return Spec(method, n, (judge or _DEFAULT_JUDGE) if method in JUDGED else None)


def short(method: str) -> str:
    """`best-of-n` with its number is best-of-8, not best-of-n-8."""
    return method.removesuffix("-n")


def _method(name: str) -> str | None:
    known = {GREEDY: "single"} | {short(method): method for method in METHODS} | {m: m for m in METHODS}
    return known.get(name)
