"""What every model refuses, in the same words. Knows no model."""

from __future__ import annotations

from collections.abc import Collection

from llava_cot.errors import ModelError
from llava_cot.models.base import Sampling
from llava_cot.models.forms import FormKind


def check_samples(n: int, sampling: Sampling) -> None:
    """Raises ModelError if nothing is asked for."""
    if n < 1 or sampling.max_tokens < 1:
        raise ModelError(f"{n} samples of {sampling.max_tokens} tokens are asked for; ask for at least 1")


def check_form(name: str, sampling: Sampling, forms: Collection[FormKind]) -> None:
    """Raises ModelError if the samples are to have a form that the model cannot force."""
    form = sampling.form
    if form is not None and form.kind not in forms:
        what = {"json": "a JSON schema", "grammar": "a grammar"}[form.kind]
        raise ModelError(f"{name} cannot be held to {what} as it writes; choose another method or model")


def check_room(cache_mb: int, max_batch: int) -> None:
    """Raises ModelError if there is no memory to work in, or no row."""
    if cache_mb < 1:
        raise ModelError(f"the memory for caches is {cache_mb} MB; give at least 1")
    if max_batch < 1:
        raise ModelError(f"the largest batch is {max_batch}; give at least 1")


def no_option() -> ModelError:
    return ModelError("there is no option to choose, or an empty one; give every option some text")


def too_long(name: str, tokens: int, context: int) -> ModelError:
    return ModelError(
        f"the prompt has {tokens} tokens, which leaves no room in the {context} that {name} "
        "takes; ask something shorter or use fewer images"
    )


def unknown_ids(name: str) -> ModelError:
    return ModelError(f"the prompt has token ids that {name} does not know")
