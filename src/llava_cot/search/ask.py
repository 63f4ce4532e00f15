"""Asking one question: the front door of the Python API.

Owns the defaults and the refusals. Knows the methods and judges by name, and nothing of how a model
is opened or a trace is shown. (Not named `ask`, which is the function the package exports.)
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec, get_args

from llava_cot.core.question import ImageSource, Question, load_image
from llava_cot.core.stages import LLAVA_COT, StageFormat
from llava_cot.core.trace import Trace
from llava_cot.models.base import Model, RewardModel, Sampling
from llava_cot.search.calibration import is_known
from llava_cot.search.extras import Extra, Extras
from llava_cot.search.judges import JUDGES, Judge, make_judge
from llava_cot.search.methods import METHODS
from llava_cot.search.search import OnEvent


async def ask(
    model: Model,
    image: ImageSource | Sequence[ImageSource] | None,
    question: str | Question,
    *,
    method: str = "stage-beam",
    n: int | None = None,
    judge: str | Judge | None = None,
    temperature: float = 0.6,
    top_p: float = 0.9,
    max_tokens: int = 2048,
    seed: int = 0,
    fmt: StageFormat = LLAVA_COT,
    budget: int | None = None,
    extras: Extras | None = None,
    on_event: OnEvent | None = None,
) -> Trace:
    """Answer a question about an image, several images or none; `trace.answer` is the conclusion.

    The defaults are the paper's, with the method's own N and judge. `temperature` 0 is greedy. `max_tokens`
    is for one sample: a whole answer, or one stage of stage-beam. `budget` bounds the tokens that are written
    for the question, where the method keeps to one. `extras` is what the method and the judge may use besides
    the model. Calls that are gathered together share the model's batches. Raises ValueError, of which
    ModelError and ImageError are kinds, with one sentence for the user.
    """
    n, sampling = settings(method, n, judge, temperature, top_p, max_tokens, seed, budget)
    kind, extras = METHODS[method], extras or Extras()
    if judge is None:
        judge = kind.judge
    lack = lacking(method, judge, held(extras))
    if lack is not None:
        raise ValueError(unmet(*lack))
    if isinstance(judge, str):
        judge = make_judge(judge, _whom(judge, extras.judge_model, model), fmt, sampling)
    asked = await _question(image, question)
    for picture in asked.images:
        await asyncio.to_thread(getattr, picture, "small")  # for the trace
    more: dict[str, Any] = {name: getattr(extras, name) for name in (*kind.wants, *kind.takes)}
    if kind.budgeted:
        more["budget"] = budget
    return await kind.run(
        asked,
        model,
        judge,
        n=n,
        sampling=sampling,
        rng=random.Random(seed),
        fmt=fmt,
        on_event=on_event,
        **more,
    )


# What to say where a method or a judge has not been given what it wants.
WANTED: dict[Extra, tuple[str, str]] = {
    "reasoner": ("a second model that reasons", "give one with --reasoner"),
    "examples": ("examples to show", "give a file of them with --examples"),
    "calibration": ("a calibration", "give what `llava-cot judge calibrate` wrote with --calibration"),
    "judge_model": ("a reward model to ask", "give one with --judge-model"),
}


def wants(method: str, judge: str | Judge | None) -> list[tuple[str, Extra]]:
    """What a method and its judge cannot do without, each with the name of whose it is."""
    found: list[tuple[str, Extra]] = [(method, extra) for extra in method_wants(method, judge)]
    if isinstance(judge, str) and JUDGES[judge].asks == "reward":
        found.append((judge, "judge_model"))
    return found


def method_wants(method: str, judge: str | Judge | None) -> tuple[Extra, ...]:
    """What a method cannot do without; a cut-off must come from somewhere."""
    kind = METHODS[method]
    unknown = "calibration" in kind.takes and isinstance(judge, str) and not is_known(judge)
    return (*kind.wants, "calibration") if unknown else kind.wants


def lacking(method: str, judge: str | Judge | None, there: Collection[Extra]) -> tuple[str, Extra] | None:
    """The first thing that is wanted and not there, after the name of whose it is."""
    return next((want for want in wants(method, judge) if want[1] not in there), None)


def unmet(whose: str, want: Extra) -> str:
    """What to say of it to whoever can give it."""
    what, how = WANTED[want]
    return f"{whose} wants {what}; {how}"


def held(extras: Extras) -> set[Extra]:
    """What there is. A judge model counts if it gives rewards: no judge cannot do without another kind."""
    there = {extra for extra in get_args(Extra) if getattr(extras, extra)}
    return there if isinstance(extras.judge_model, RewardModel) else there - {"judge_model"}


def _whom(judge: str, other: Model | RewardModel | None, model: Model) -> Model | RewardModel:
    """Whom a judge asks: the other model, if it is of the kind that the judge asks."""
    fits = other is not None and isinstance(other, RewardModel) == (JUDGES[judge].asks == "reward")
    return other if other is not None and fits else model


_P = ParamSpec("_P")


def _synchronous(function: Callable[_P, Coroutine[Any, Any, Trace]]) -> Callable[_P, Trace]:
    @wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> Trace:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(function(*args, **kwargs))
        raise RuntimeError(
            "ask_sync cannot wait in an event loop, such as a notebook's; write await ask(...)"
        )

    run.__name__ = run.__qualname__ = "ask_sync"
    return run


ask_sync = _synchronous(ask)


def settings(
    method: str,
    n: int | None,
    judge: str | Judge | None,
    temperature: float,
    top_p: float,
    max_tokens: int,
    seed: int,
    budget: int | None = None,
) -> tuple[int, Sampling]:
    """The number of candidates and the sampling that `ask` will use. Raises ValueError if it would refuse."""
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}; choose one of {', '.join(METHODS)}")
    if n is None:
        n = 1 if METHODS[method].one else METHODS[method].n
    if n < 1:
        raise ValueError(f"n is {n}; a question takes at least one sample")
    if METHODS[method].one and n != 1:
        raise ValueError(f"the method {method} takes one sample, not {n}; use n = 1, or choose a search")
    if budget is not None and not METHODS[method].budgeted:
        those = ", ".join(name for name, kind in METHODS.items() if kind.budgeted)
        raise ValueError(f"the method {method} keeps to no budget; leave it out, or choose one of {those}")
    if budget is not None and budget < 1:
        raise ValueError(f"the budget is {budget} tokens; give at least 1")
    if judge is not None and METHODS[method].judge is None:
        raise ValueError(f"the method {method} asks no judge; leave the judge out, or choose a search")
    if isinstance(judge, str) and judge not in JUDGES:
        raise ValueError(f"there is no judge {judge!r}; choose one of {', '.join(JUDGES)}")
    if isinstance(judge, str) and METHODS[method].scored and not JUDGES[judge].scores:
        those = ", ".join(name for name, kind in JUDGES.items() if kind.scores)
        raise ValueError(f"the method {method} needs scores, and {judge} gives none; choose one of {those}")
    if isinstance(judge, str) and METHODS[method].probability and not JUDGES[judge].probability:
        those = ", ".join(name for name, kind in JUDGES.items() if kind.probability)
        raise ValueError(
            f"the method {method} goes by how sure the judge is, and the scores of {judge} are no "
            f"probabilities; choose one of {those}"
        )
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"the temperature is {temperature}; give 0 (greedy) or more")
    if not 0 < top_p <= 1:
        raise ValueError(f"top-p is {top_p}; give more than 0 and at most 1")
    if max_tokens < 1:
        raise ValueError(f"the limit of tokens is {max_tokens}; give at least 1")
    return n, Sampling(temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed)


async def _question(image: ImageSource | Sequence[ImageSource] | None, question: str | Question) -> Question:
    asked = question if isinstance(question, Question) else Question(question)
    if not asked.text.strip():
        raise ValueError("the question is empty; write what you want to know")
    if image is None:
        return asked
    if asked.images:
        raise ValueError("the question has images of its own; give None as the image")
    sources = [image] if isinstance(image, ImageSource) else list(image)
    loads = (asyncio.to_thread(load_image, source) for source in sources)
    return replace(asked, images=tuple(await asyncio.gather(*loads)))
