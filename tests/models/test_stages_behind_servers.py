"""Stages of models behind servers that were never trained on them: what is asked, and what is remembered."""

import random

import pytest
from endpoint_double import Double

from llava_cot.core.stages import LLAVA_COT, validate
from llava_cot.models.base import Prompt
from llava_cot.models.endpoint.capabilities import load
from llava_cot.models.registry import open_model
from llava_cot.models.scripted import ScriptedModel
from llava_cot.models.stage_mark import is_published
from llava_cot.search.ask import ask


def prose(prompt: Prompt, rng: random.Random) -> str:
    """Answers in prose, whatever it is asked."""
    return rng.choice(("There are two cubes. They are red.", "I see two cubes. Both are red."))


def staged(prompt: Prompt, rng: random.Random) -> str:
    """Writes stages by itself."""
    whole = "\n\n".join(f"{stage.open} 2 {stage.close}" for stage in LLAVA_COT.stages)
    return whole[len(prompt.prefix) :] if whole.startswith(prompt.prefix) else "I choose response 1."


@pytest.mark.parametrize("way", ["none", "continue", "trailing"])
@pytest.mark.parametrize("method", ["stage-beam", "single", "sentence-beam", "best-of-n", "majority"])
async def test_prose_becomes_stages(way: str, method: str) -> None:
    with Double(ScriptedModel(prose), way) as double:  # type: ignore[arg-type]
        model = open_model(double.url)
        try:
            trace = await ask(model, None, "How many cubes are there?", method=method)
        finally:
            model.close()
    assert trace.staging == "prompted"
    assert all(trace.stages.values()) and not validate(trace.text)
    assert "no-stages" not in [warning.kind for warning in trace.warnings]


async def test_what_a_model_writes_is_found_out_once_and_saved() -> None:
    for script, trained in ((staged, True), (prose, False)):
        with Double(ScriptedModel(script)) as double:
            for opened in range(2):
                model = open_model(double.url)
                requests = len(double.bodies)
                try:
                    trace = await ask(model, None, "How many cubes are there?", method="single")
                finally:
                    model.close()
                assert trace.staging == ("trained" if trained else "prompted")
                assert len(double.bodies) - requests == (1 if trained else 4) + (not opened)
            known = load(double.url, "scripted")
            assert known is not None and list(known.stages.values()) == [trained]


async def test_the_published_weights_are_known_by_their_name() -> None:
    name = "Xkev/Llama-3.2V-11B-cot"
    with Double(ScriptedModel(prose), models=[name]) as double:
        model = open_model(double.url)
        try:
            trace = await ask(model, None, "How many cubes are there?", method="single")
        finally:
            model.close()
    assert trace.staging == "trained"


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("Xkev/Llama-3.2V-11B-cot", True),
        ("Xkev/Llama-3.2V-11B-cot@main", True),
        ("Xkev/Llama-3.2V-11B-cot@0123abc+charts", True),
        ("LLaVA-o1", True),
        ("org/llava-cot-data", False),
        ("meta-llama/Llama-3.2-11B-Vision-Instruct", False),
    ],
)
def test_names_of_the_published_weights(name: str, published: bool) -> None:
    assert is_published(name) == published


async def test_what_was_found_out_is_saved_whatever_the_model_is_served_as() -> None:
    with Double(ScriptedModel(prose)) as double:
        model = open_model(double.url)
        model.name = "mine"
        try:
            await ask(model, None, "How many cubes are there?", method="single")
        finally:
            model.close()
        known = load(double.url, "scripted")
        assert known is not None and list(known.stages.values()) == [False]
