"""Every method with every judge on a model that writes noise, and what must hold of any trace."""

from __future__ import annotations

import math

import pytest
from playing import SEARCHES as ALL

from llava_cot import ask
from llava_cot.core.question import LoadedImage
from llava_cot.core.stages import make_format
from llava_cot.core.trace import Trace
from llava_cot.models.base import Model, Sampling
from llava_cot.search.calibration import Calibration
from llava_cot.search.methods import METHODS
from llava_cot.search.resources import Resources

# Tags that noise has now and then, so that a search on it has several stages.
NOISY = make_format("look=a e,think=o r,answer=i s")
SEARCHES = [(method, judge) for method, judge in ALL if judge in (None, "self", "logits", "likelihood")]
every_search = pytest.mark.parametrize(("method", "judge"), SEARCHES)


async def search(
    model: Model,
    method: str,
    judge: str | None,
    *,
    picture: LoadedImage,
    n: int = 3,
    seed: int = 0,
    max_tokens: int = 40,
) -> Trace:
    """One search about a picture, with what it came to looked at."""
    trace = await ask(
        model,
        picture.pil,
        "How many objects are there?",
        method=method,
        judge=judge,
        n=1 if METHODS[method].single else n,
        sampling=Sampling(seed=seed, temperature=1.0, top_p=1.0, max_tokens=max_tokens),
        fmt=NOISY,
        resources=Resources(calibration=None if judge is None else Calibration(judge, -5.0, 1.0)),
    )
    kept = [trace.candidates[number] for number in trace.chosen]
    assert "".join(candidate.text for candidate in kept) == trace.text
    assert all(0 < candidate.completion_tokens <= max_tokens for candidate in trace.candidates)
    assert all(candidate.logprob is not None and candidate.logprob <= 0 for candidate in trace.candidates)
    assert trace.usage.prompt_tokens > 50 * len(trace.candidates)
    assert bool(trace.verdicts or trace.scores) == (judge is not None)
    if judge == "logits":
        assert all(math.isclose(sum(v.scores or ()), 1) for v in trace.verdicts)
    assert Trace.model_validate_json(trace.model_dump_json()) == trace
    return trace
