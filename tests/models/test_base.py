"""Sampling options: bounds, descriptions, and refusals by name."""

import pickle
from dataclasses import fields, replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

import llava_cot
from llava_cot.core.question import PLACE
from llava_cot.errors import ModelError
from llava_cot.models.base import (
    OPTIONAL_SAMPLING,
    SAMPLING_OPTIONS,
    Continuation,
    Prompt,
    Sampling,
    check_sampling,
    explain_sampling,
    sampling_options_of,
)
from llava_cot.models.scripted import ScriptedModel


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"temperature": -1}, "temperature is -1; give a number of at least 0 (randomness of sampling; 0 is"),
        ({"temperature": float("inf")}, "temperature is inf; give a number of at least 0"),
        ({"temperature": "hot"}, "temperature is hot; give a number of at least 0"),
        ({"top_p": 0}, "top_p is 0; give a number of more than 0 and at most 1"),
        ({"top_p": 1.5}, "top_p is 1.5; give a number of more than 0 and at most 1"),
        ({"min_p": 2}, "min_p is 2; give a number of at least 0 and at most 1"),
        ({"top_k": -1}, "top_k is -1; give a whole number of at least 0"),
        ({"top_k": 1.5}, "top_k is 1.5; give a whole number of at least 0"),
        (
            {"repetition_penalty": 0},
            "repetition_penalty is 0; give a number of at least 0.01 and at most 100",
        ),
        ({"repetition_penalty": 1e-38}, "repetition_penalty is 1e-38; give a number of at least 0.01"),
        ({"repetition_penalty": 101}, "repetition_penalty is 101; give a number of at least 0.01"),
        ({"max_tokens": 0}, "max_tokens is 0; give a whole number of at least 1 (longest sample, in tokens)"),
        ({"seed": "x"}, "seed is x; give a whole number"),
        ({"topk": 1}, "there is no sampling option 'topk'; choose one of temperature, top_p, top_k, "),
    ],
)
def test_values_out_of_bounds_are_explained(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError) as failure:
        Sampling(**given)  # type: ignore[arg-type]
    assert explain_sampling(failure.value).startswith(words)


def test_what_users_set_is_described() -> None:
    described = TypeAdapter(Sampling).json_schema()["properties"]
    assert all(described[name]["description"] for name in SAMPLING_OPTIONS)
    internal = {field.name for field in fields(Sampling)} - set(SAMPLING_OPTIONS)
    assert internal == {"stop", "first", "constraint"}


def test_it_is_a_value() -> None:
    one = Sampling(temperature=1, stop=("a",))
    assert replace(one, seed=2**70) == Sampling(1.0, stop=("a",), seed=2**70)
    assert hash(replace(one)) == hash(one) and pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(ValidationError):
        replace(one, top_p=0)


async def test_a_model_refuses_options_that_it_does_not_declare() -> None:
    assert sampling_options_of(object()) == ()
    check_sampling(object(), "a model", Sampling())
    with pytest.raises(ModelError, match="a model does not support min_p; leave it out"):
        check_sampling(ScriptedModel({}, sampling_options=("top_k",)), "a model", Sampling(min_p=0.1))
    model = ScriptedModel(lambda prompt, rng: "yes", sampling_options=("top_k",))
    with pytest.raises(ModelError, match="scripted does not support repetition_penalty"):
        await model.sample(Prompt.of("q"), 1, Sampling(repetition_penalty=1.1))
    assert model.calls == []
    await model.sample(Prompt.of("q"), 1, Sampling(top_k=3))
    assert model.calls[0].sampling.top_k == 3
    assert sampling_options_of(ScriptedModel({})) == OPTIONAL_SAMPLING


def test_an_option_that_not_every_model_has_is_named_in_few_files() -> None:
    sources = [path.read_text() for path in Path(llava_cot.__file__).parent.rglob("*.py")]
    for option in OPTIONAL_SAMPLING:
        assert 1 <= sum(option in source for source in sources) <= 5, option


def test_a_model_cannot_write_the_place_of_a_picture() -> None:
    written = Continuation(f"a{PLACE}b", (1,), -1.0, "eos", 3, 1)
    assert written.text == "a\N{REPLACEMENT CHARACTER}b"
