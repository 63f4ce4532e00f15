"""Adaptive methods and budgets on the model in the package."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import llava_cot
from llava_cot import ask, open_model
from llava_cot.models.base import Model, Sampling
from llava_cot.search.budget import FLOOR

PICTURE = Path(llava_cot.__file__).parents[2] / "examples" / "scene.png"


@pytest.fixture(scope="module")
def mini() -> Iterator[Model]:
    model = open_model("mini")
    yield model
    model.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("method", "judge", "budget"),
    [
        ("adaptive-majority", None, None),
        ("adaptive-stage-beam", "self", None),
        ("stage-beam", "self", 250),
        ("stage-beam", "logits", 250),
    ],
)
async def test_they_answer_in_stages(mini: Model, method: str, judge: str | None, budget: int | None) -> None:
    question = "How many objects are there?"
    trace = await ask(
        mini,
        PICTURE,
        question,
        method=method,
        n=6,
        judge=judge,
        budget=budget,
        sampling=Sampling(max_tokens=150, seed=1),
    )
    assert trace.answer is not None and trace.answer.isdigit()
    assert all(trace.stages.values())
    if judge == "logits" and budget:
        assert trace.usage.completion_tokens <= max(budget, 4 * FLOOR)
    if method == "adaptive-majority":
        whole = await ask(
            mini, PICTURE, question, method="majority", n=6, sampling=Sampling(max_tokens=150, seed=1)
        )
        count = len(trace.candidates)
        assert [c.text for c in trace.candidates] == [c.text for c in whole.candidates[:count]]
