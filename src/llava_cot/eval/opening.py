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
    models: Sequence[str], *, model_name: str | None, at_once: int | None, device: str, dtype: str
) -> tuple[Entry, ...]:
    """Raises ValueError for two models of one name."""
    found = [_entry(text, model_name, at_once, device, dtype) for text in models]
    names = [entry.name for entry in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two models are called {name}; give each a name of its own, as in NAME=MODEL")
    return tuple(found)


def _entry(text: str, model_name: str | None, at_once: int | None, device: str, dtype: str) -> Entry:
    named = _NAMED.fullmatch(text)
    name, spec = (named[1], named[2]) if named else (text, text)

    @contextmanager
    def opened() -> Iterator[tuple[Answer, int]]:
        from llava_cot.models.endpoint import EndpointModel

        model = open_model(
            spec, model_name=model_name, device=device, dtype=dtype, in_flight=at_once or _ASKED
        )
        with closing(model):
            yield (
                partial(ask, model, None),
                at_once or (_ASKED if isinstance(model, EndpointModel) else _HERE),
            )

    return Entry(name, _lasting(spec) + (f" {model_name}" if model_name else ""), opened)


def _lasting(spec: str) -> str:
    """What the model is, from whichever folder the command is given."""
    folder = Path(spec).expanduser()
    return str(folder.resolve()) if spec not in BUILT_IN and folder.is_dir() else spec
