"""The inference-time scaling methods, each one function in one dictionary, with what it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from llava_cot.methods.base import Method
from llava_cot.methods.best_of_n import best_of_n
from llava_cot.methods.extras import Extra
from llava_cot.methods.majority import majority
from llava_cot.methods.msg import msg
from llava_cot.methods.sentence_beam import sentence_beam
from llava_cot.methods.single import single
from llava_cot.methods.stage_beam import stage_beam
from llava_cot.trace import Trace

__all__ = ["METHODS", "Kind", "Method"]


@dataclass(frozen=True)
class Kind:
    """A method. Beyond what each takes (`Method`), `run` takes what is in `wants` by these names, and
    `budget` if it is `budgeted`."""

    run: Callable[..., Awaitable[Trace]]
    one: bool = False  # a single answer, so that n is 1
    judge: str | None = None  # which judge it asks by itself; None if it asks none
    scored: bool = False  # its judge must give scores
    budgeted: bool = False
    wants: tuple[Extra, ...] = ()


METHODS: dict[str, Kind] = {
    "single": Kind(single, one=True),
    "majority": Kind(majority),
    "best-of-n": Kind(best_of_n, judge="self"),
    "sentence-beam": Kind(sentence_beam, judge="self"),
    "stage-beam": Kind(stage_beam, judge="self"),
    "msg": Kind(msg, one=True),
}
