"""The models of a plan, by what a user calls them: MODEL, or NAME=MODEL.

Owns the names, and how many questions a kind of model likes at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial

from llava_cot.core.question import Question
from llava_cot.core.trace import Trace
from llava_cot.evaluation.plan import AnswerFunction, PlannedModel
from llava_cot.models.base import Model
from llava_cot.models.registry import open_model
from llava_cot.search.ask import answer
from llava_cot.search.request import Request
from llava_cot.search.resources import Resources, absolute

# One machine's batches grow no faster beyond the first; a server's line is never to be empty.
_HERE, ASKED = 64, 256
_NAMED = re.compile(r"([A-Za-z0-9][\w.-]*)=(.+)", re.DOTALL)


def entries(
    models: Sequence[str],
    *,
    model_name: str | None,
    at_once: int | None,
    device: str,
    dtype: str,
    ray: str | None = None,
    known: Mapping[str, Model] | None = None,
) -> tuple[PlannedModel, ...]:
    """Models in this process or behind servers; with `ray`, in the workers of the cluster at that address.

    `known` may come to hold models that are open, by what they are called: those are not opened again.
    Raises ValueError for two models of one name.
    """
    if ray is not None and model_name is not None:
        raise ValueError(
            "--model-name is for servers, and --ray for models that are none; leave one of them out"
        )
    found = []
    for text in models:
        named = _NAMED.fullmatch(text)
        name, spec = (named[1], named[2]) if named else (text, text)
        if ray is None:
            opened = partial(_here, spec, model_name, at_once, device, dtype, {} if known is None else known)
        else:
            opened = partial(_by_ray, ray, spec, at_once, device, dtype)
        found.append(PlannedModel(name, absolute(spec) + (f" {model_name}" if model_name else ""), opened))
    names = [entry.name for entry in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two models are called {name}; give each a name of its own, as in NAME=MODEL")
    return tuple(found)


async def _answer(model: Model, question: Question, request: Request, resources: Resources) -> Trace:
    return await answer(request, model, question, resources)


@contextmanager
def _here(
    spec: str,
    model_name: str | None,
    at_once: int | None,
    device: str,
    dtype: str,
    known: Mapping[str, Model],
) -> Iterator[tuple[AnswerFunction, int]]:
    from llava_cot.models.endpoint.balancing import BalancedModel
    from llava_cot.models.endpoint.client import EndpointModel

    with ExitStack() as stack:
        model = known.get(spec) if model_name is None else None
        if model is None:
            opened = open_model(
                spec, model_name=model_name, device=device, dtype=dtype, in_flight=at_once or ASKED
            )
            model = stack.enter_context(closing(opened))
        liked = ASKED if isinstance(model, EndpointModel | BalancedModel) else _HERE
        yield partial(_answer, model), at_once or liked


@contextmanager
def _by_ray(
    address: str, spec: str, at_once: int | None, device: str, dtype: str
) -> Iterator[tuple[AnswerFunction, int]]:
    from llava_cot.evaluation.cluster import Cluster

    with closing(Cluster(address, spec, device=device, dtype=dtype)) as cluster:
        yield cluster.answer, at_once or _HERE * cluster.workers
