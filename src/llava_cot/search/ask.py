"""Answering one question: the entry point of the Python API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec

from llava_cot.core.question import ImageSource, Question, load_image
from llava_cot.core.stages import LLAVA_COT, StageFormat, StagesChoice
from llava_cot.core.trace import Trace
from llava_cot.errors import RequestError
from llava_cot.models.base import Model, RewardModel, Sampling, check_sampling, domain_of
from llava_cot.search.judge_prompts import prompts_for
from llava_cot.search.judges.base import JUDGES, Judge, JudgeSetup
from llava_cot.search.request import Request, check_model, make_request
from llava_cot.search.resources import Resources
from llava_cot.search.search import OnEvent, Search
from llava_cot.search.without_thinking import without_thinking


async def ask(
    model: Model,
    image: ImageSource | Sequence[ImageSource] | None,
    question: str | Question,
    *,
    method: str = "stage-beam",
    n: int | None = None,
    judge: str | Judge | None = None,
    sampling: Sampling | None = None,
    budget: int | None = None,
    fmt: StageFormat = LLAVA_COT,
    resources: Resources | None = None,
    stages: StagesChoice | None = None,
    think_tokens: int | None = None,
    min_think_tokens: int | None = None,
    on_event: OnEvent | None = None,
) -> Trace:
    """Answer a question about an image, several images or none; `trace.answer` is the conclusion.

    Calls that are gathered share the model's batches.

        trace = await ask(model, "scene.png", "How many cubes are there?", method="stage-beam", n=4)

    Args:
        model: The model that answers, as `open_model` opens it.
        image: A path, a URL, bytes, a PIL image, several of these, or None.
        question: The text, or a `Question` with options or images of its own.
        method: The method's name; `METHODS` has them all.
        n: The number of candidates; by default the method's own.
        judge: The judge's name, or a judge; by default the method's own.
        sampling: How candidates are sampled; by default as in the paper (temperature 0.6, top-p 0.9, at most
            2,048 tokens for a whole answer or one stage). `Sampling(temperature=0)` is greedy.
        budget: The most new tokens of the question, for methods that keep to one.
        fmt: The stage format.
        resources: What the method and the judge may use besides the model.
        stages: "trained" if the model writes the stages by itself, "prompted" to ask it for each; by default
            that is found out.
        think_tokens: The most tokens of the model's thinking, with `fmt=make_format("thinking")`; a longer
            one is cut and closed.
        min_think_tokens: The fewest; a shorter one is continued at its end.
        on_event: Called with each event of the search.

    Raises:
        ValueError: With one sentence for the user. `RequestError`, `ModelError` and `ImageError` are kinds of
            it.
    """
    request = make_request(
        method,
        n=n,
        judge=judge,
        sampling=sampling,
        budget=budget,
        fmt=fmt,
        resources=resources,
        stages=stages,
        think_tokens=think_tokens,
        min_think_tokens=min_think_tokens,
    )
    return await answer(request, model, await _question(image, question), resources, on_event)


async def answer(
    request: Request,
    model: Model,
    question: Question,
    resources: Resources | None = None,
    on_event: OnEvent | None = None,
) -> Trace:
    """Answer a question by a checked request; `ask` is the convenient form of it.

    Args:
        request: The checked choices, as `make_request` makes them.
        model: The model that answers.
        question: The question with its images.
        resources: What the method and the judge may use besides the model; as given to `make_request`.
        on_event: Called with each event of the search.

    Raises:
        ValueError: With one sentence for the user.
    """
    if not question.text.strip():
        raise ValueError("the question is empty; write what you want to know")
    resources = resources or Resources()
    judge = prepare(request, model, resources)
    for image in question.images:
        await asyncio.to_thread(getattr, image, "small")  # the trace's small copy
    search = Search(request, model, question, judge, resources, on_event)
    await request.declaration.run(search)
    return search.finish(await asyncio.to_thread(_unfamiliar, model, question))


def _unfamiliar(model: Model, question: Question) -> str | None:
    """Why a model that knows one domain alone does not know this question, if so."""
    if domain_of(model) != "scenes":
        return None
    from llava_cot.scenes.recognition import unfamiliar

    reason = unfamiliar(question)
    return reason and f"{model.name} knows llava-cot's scenes of geometric objects alone, and {reason}"


def prepare(request: Request, model: Model, resources: Resources) -> Judge | None:
    """The judge of a request, if any.

    Raises:
        ModelError: A model ignores a sampling option that is set.
        RequestError: A model cannot do what the method or the judge needs.
    """
    reasoner = resources.reasoner if "reasoner" in request.declaration.resources else None
    for used in (model, reasoner):
        if used is not None:
            check_sampling(used, used.name, request.sampling)
    judge = request.judge
    check_model(request.method, judge if isinstance(judge, str) else None, model, resources)
    return make_judge(judge, model, request, resources) if isinstance(judge, str) else judge


def make_judge(name: str, model: Model, request: Request, resources: Resources) -> Judge:
    """The judge of a request, which uses the judge model if that is of the right kind, else the model."""
    declared, other = JUDGES[name], resources.judge_model
    rewards = declared.uses == "reward model"
    used: Any = None
    if declared.uses != "nothing":  # a model of another package may both sample and give rewards
        fits = isinstance(other, RewardModel) if rewards else hasattr(other, "sample")
        used = other if fits else model
    reference = (resources.reference or model) if declared.reference else None
    if reference is None and declared.uses == "model":
        used = without_thinking(used, request.fmt)
    if reference is not None and used is reference:
        raise RequestError(
            "judge", f"the judge {name} compares {model.name} with itself; pass another --judge-model, or "
            "--reference",
        )  # fmt: skip
    prompts = resources.judge_prompts or prompts_for(request.fmt)
    setup = JudgeSetup(
        used, request.fmt, request.sampling, prompts, reference, resources.likelihood_weight,
        resources.step_scores if declared.steps else None,
    )  # fmt: skip
    return declared.make(setup)


_P = ParamSpec("_P")


def _synchronous(function: Callable[_P, Coroutine[Any, Any, Trace]]) -> Callable[_P, Trace]:
    @wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> Trace:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError(
                "ask_sync cannot wait in an event loop, such as a notebook's; write await ask(...)"
            )
        return asyncio.run(function(*args, **kwargs))

    run.__name__ = run.__qualname__ = "ask_sync"
    return run


ask_sync = _synchronous(ask)


async def _question(image: ImageSource | Sequence[ImageSource] | None, question: str | Question) -> Question:
    found = question if isinstance(question, Question) else Question(question)
    if image is None:
        return found
    if not found.text.strip():
        raise ValueError("the question is empty; write what you want to know")
    if found.images:
        raise ValueError("the question has images of its own; give None as the image")
    sources = [image] if isinstance(image, ImageSource) else list(image)
    loads = (asyncio.to_thread(load_image, source) for source in sources)
    return replace(found, images=tuple(await asyncio.gather(*loads)))
