"""What a method is: a function that spends model calls on one question, and what it declares."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Literal, get_args

from llava_cot.core.plugins import Registry

if TYPE_CHECKING:
    from llava_cot.search.search import Search

# What a method or a judge may need besides the model; see `Resources`.
ResourceName = Literal[
    "reasoner",
    "judge_model",
    "reference",
    "likelihood_weight",
    "step_scores",
    "examples",
    "calibration",
    "judge_prompts",
]

Run = Callable[["Search"], Awaitable[None]]

GREEDY = "greedy"  # the spec of `single` at temperature 0
ALIASES = {"weighted-majority": "weighted-best-of-n"}  # one rule has two names


@dataclass(frozen=True)
class Method:
    """A method: the function `run`, and what it declares; the other attributes are arguments of `method`."""

    name: str
    run: Run
    n: int = 2
    single: bool = False
    judge: str | None = None
    scores: bool = False
    probabilities: bool = False
    budgeted: bool = False
    requires: tuple[ResourceName, ...] = ()
    accepts: tuple[ResourceName, ...] = ()
    constrained: bool = False
    logprobs: bool = False

    @property
    def resources(self) -> tuple[ResourceName, ...]:
        """All resources that it can use."""
        return (*self.requires, *self.accepts)

    @property
    def short(self) -> str:
        """Its name before a number."""
        return short_name(self.name)


def short_name(name: str) -> str:
    """A method's name before a number: best-of-n is best-of-8."""
    return name.removesuffix("-n")


METHODS: Registry[Method] = Registry(
    "llava_cot.methods",
    "method",
    [
        f"llava_cot.search.methods.{module}"
        for module in (
            "single",
            "majority",
            "adaptive_majority",
            "confidence_majority",
            "best_of_n",
            "weighted",
            "adaptive_best",
            "sentence_beam",
            "stage_beam",
            "adaptive_beam",
            "stage_wise_beam",
            "annealed_beam",
            "particle_filter",
            "swires",
            "staged_prompt",
            "msg",
            "cot",
            "prism",
        )
    ],
    decorated=True,
)


def method(
    name: str,
    *,
    n: int = 2,
    single: bool = False,
    judge: str | None = None,
    scores: bool = False,
    probabilities: bool = False,
    budgeted: bool = False,
    requires: tuple[ResourceName, ...] = (),
    accepts: tuple[ResourceName, ...] = (),
    constrained: bool = False,
    logprobs: bool = False,
) -> Callable[[Run], Run]:
    """Register an async function of a `Search` as a method.

    Requests that cannot work with what is declared are refused before any model runs.

    Args:
        name: Its name on the command line, in specs and in traces.
        n: The number of candidates where none is given.
        single: It gives one answer, so that n is 1.
        judge: The judge it uses where none is named; None if it uses no judge.
        scores: Its judge must give scores.
        probabilities: Its judge's scores must be probabilities.
        budgeted: It can keep to a budget of tokens.
        requires: Resources that it cannot do without.
        accepts: Resources that it can use.
        constrained: The model must have constrained decoding.
        logprobs: The model must give log-probabilities.

    Raises:
        ValueError: There is another method of this name, or what is declared cannot be.
        TypeError: The function is not async.
    """

    def register(run: Run) -> Run:
        if not run.__module__.startswith(f"{__package__}."):
            _check_declaration(name, run, n, (*requires, *accepts))
        declared = Method(
            name, run, 1 if single else n, single, judge, scores, probabilities, budgeted, requires, accepts,
            constrained, logprobs,
        )  # fmt: skip
        METHODS.add(name, declared, run.__module__)
        return run

    return register


def _check_declaration(name: str, run: Run, n: int, resources: tuple[str, ...]) -> None:
    """Check what another package declares: the name is not read as a spec, and a request can be made."""
    if not iscoroutinefunction(run):
        raise TypeError(f"the method {name} must be an async function of a Search")
    others = [known for known in METHODS if known != name]
    taken = {GREEDY, *ALIASES, *map(short_name, others)} - set(others)
    if name in taken or short_name(name) in others or re.search("-[0-9]+(@|$)|-within$", name):
        raise ValueError(
            f"{name!r} cannot name a method, since it would be read as a spec; choose another name"
        )
    if n < 1:
        raise ValueError(f"the method {name} declares n = {n}; a question needs at least one candidate")
    for resource in resources:
        if resource not in get_args(ResourceName):
            known = ", ".join(get_args(ResourceName))
            raise ValueError(f"the method {name} declares the resource {resource!r}; there are {known}")
