"""The models of a plan, by what a user calls them: MODEL, or NAME=MODEL.

Owns the names, and how many questions a kind of model likes at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from llava_cot.asking import ask
from llava_cot.eval.plan import Answer, Entry
from llava_cot.models import BUILT_IN, open_model

# One machine's batches grow no faster beyond the first; a server's line is never to be empty.
_HERE, _ASKED = 64, 256
_NAMED = re.compile(r"([A-Za-z0-9][\w.-]*)=(.+)", re.DOTALL)


def entries(
    models: Sequence[str],
    *,
    model_name: str | None,
    at_once: int | None,
    device: str,
    dtype: str,
    ray: str | None = None,
) -> tuple[Entry, ...]:
    """Models in this process or behind servers; with `ray`, in the workers of the cluster at that address.

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
            opened = partial(_here, spec, model_name, at_once, device, dtype)
        else:
            opened = partial(_by_ray, ray, spec, at_once, device, dtype)
        found.append(Entry(name, _lasting(spec) + (f" {model_name}" if model_name else ""), opened))
    names = [entry.name for entry in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two models are called {name}; give each a name of its own, as in NAME=MODEL")
    return tuple(found)


@contextmanager
def _here(
    spec: str, model_name: str | None, at_once: int | None, device: str, dtype: str
) -> Iterator[tuple[Answer, int]]:
    from llava_cot.models.endpoint import EndpointModel
    from llava_cot.models.several import SeveralModel

    model = open_model(spec, model_name=model_name, device=device, dtype=dtype, in_flight=at_once or _ASKED)
    with closing(model):
        liked = _ASKED if isinstance(model, EndpointModel | SeveralModel) else _HERE
        yield partial(ask, model, None), at_once or liked


@contextmanager
def _by_ray(
    address: str, spec: str, at_once: int | None, device: str, dtype: str
) -> Iterator[tuple[Answer, int]]:
    from llava_cot.eval.cluster import Cluster

    with closing(Cluster(address, spec, device=device, dtype=dtype)) as cluster:
        yield cluster.answer, at_once or _HERE * cluster.workers


def _lasting(spec: str) -> str:
    """What the model is, from whichever folder the command is given."""
    folder = Path(spec).expanduser()
    return str(folder.resolve()) if spec not in BUILT_IN and folder.is_dir() else spec
