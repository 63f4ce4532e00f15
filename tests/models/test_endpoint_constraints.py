"""JSON schemas that servers enforce: how they are found out and requested."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from endpoint_double import Double
from playing import PICTURE, WORDS

from llava_cot import ask, open_model
from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT, validate
from llava_cot.errors import ModelError, RequestError
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.endpoint.balancing import BalancedModel
from llava_cot.models.endpoint.capabilities import capabilities_folder
from llava_cot.models.endpoint.client import EndpointModel
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.stage_constraints import stage_grammar, stage_schema

QUESTION = Question("How many?", (PICTURE,), options=("2", "3"))
SCHEMA = json.loads(stage_schema(LLAVA_COT, QUESTION.options).text)
FIELDS = {
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
    },
    "structured_outputs": {"json": SCHEMA},
    "guided_json": SCHEMA,
}


def script(prompt: Prompt, rng: random.Random) -> str:
    return json.dumps(WORDS) if "Answer in JSON" in prompt.messages[-1].text else "I count 2."


def double(**kinds: Any) -> Double:
    return Double(ScriptedModel(script, lambda prompt, options: [-1.0, -2.0]), **kinds)


@contextmanager
def opened(server: Double) -> Iterator[EndpointModel]:
    with closing(open_model(server.url)) as model:
        assert isinstance(model, EndpointModel)
        server.bodies.clear()
        yield model


@pytest.mark.parametrize("refuses", [True, False])
@pytest.mark.parametrize(
    ("owner", "way"),
    [
        ("someone", "response_format"),
        ("sglang", "response_format"),
        ("vllm", "response_format"),
        ("vllm", "structured_outputs"),
        ("vllm", "guided_json"),
    ],
)
async def test_a_schema_is_sent_in_the_field_that_the_server_obeys(
    owner: str, way: str, refuses: bool
) -> None:
    with (
        double(owner=owner, schema_fields=(way,), refuses_schemas=refuses) as server,
        opened(server) as model,
    ):
        assert (model.capabilities.json_schema, model.constraints) == (way, ("json",))
        assert f"enforced ({way})" in model.describe()
        trace = await ask(model, None, QUESTION, method="msg")
        [body] = server.bodies
        assert {name: body[name] for name in FIELDS if name in body} == {way: FIELDS[way]}
        assert list(body[way].get("json_schema", {}).get("schema", SCHEMA)["properties"]) == list(WORDS)
        assert trace.stages == WORDS and validate(trace.text) == [] and trace.usage.model_calls == 1
        server.bodies.clear()
        await ask(model, None, QUESTION, method="single")
        assert not set(FIELDS) & set(server.bodies[0])


@pytest.mark.parametrize("refuses", [True, False])
@pytest.mark.parametrize(
    "schema_fields", [(), ("structured_outputs", "guided_json")]
)  # vLLM's are tried with vLLM alone
async def test_a_server_that_enforces_nothing_is_refused_before_any_request(
    schema_fields: tuple[str, ...], refuses: bool
) -> None:
    with double(schema_fields=schema_fields, refuses_schemas=refuses) as server, opened(server) as model:
        assert (model.capabilities.json_schema, model.constraints) == ("none", ())
        assert "not enforced" in model.describe()
        with pytest.raises(
            RequestError, match="msg needs constrained decoding, which scripted does not have"
        ):
            await ask(model, None, QUESTION, method="msg")
        with pytest.raises(
            ModelError, match=r"scripted at http\S+ cannot constrain its output to a JSON schema"
        ):
            await model.sample(Prompt.of("q"), 1, Sampling(constraint=stage_schema(LLAVA_COT)))
        assert server.bodies == []


async def test_a_grammar_is_sent_to_no_server() -> None:
    with double(schema_fields=("response_format",)) as server, opened(server) as model:
        with pytest.raises(ModelError, match="cannot constrain its output to a grammar"):
            await model.sample(Prompt.of("q"), 1, Sampling(constraint=stage_grammar(LLAVA_COT)))
        assert server.bodies == []


async def test_a_reply_that_was_cut_keeps_its_stages() -> None:
    with double(schema_fields=("response_format",)) as server, opened(server) as model:
        trace = await ask(model, None, QUESTION, method="msg", sampling=Sampling(max_tokens=8))
        assert trace.candidates[0].finish == "length"
        assert (trace.stages["summary"], trace.stages["caption"]) == (WORDS["summary"], "There are 3")
        assert trace.answer is None


async def test_capabilities_saved_without_schemas_are_found_out_again() -> None:
    with double(schema_fields=("response_format",)) as server:
        with opened(server):
            pass
        [file] = capabilities_folder().iterdir()
        known = json.loads(file.read_text())
        del known["json_schema"]
        file.write_text(json.dumps(known))
        with opened(server) as model:
            assert model.capabilities.json_schema == "response_format"


@pytest.mark.parametrize("other", ["response_format", "none"])
async def test_several_servers_enforce_what_each_of_them_can(other: str) -> None:
    schema_fields = () if other == "none" else (other,)
    with (
        double(schema_fields=("guided_json",), owner="vllm", way="continue") as first,
        double(schema_fields=schema_fields) as second,
        closing(open_model(f"{first.url},{second.url}")) as model,
    ):
        assert isinstance(model, BalancedModel)
        assert model.constraints == (() if other == "none" else ("json",))
        if model.constraints:
            found = await asyncio.gather(
                *(ask(model, None, QUESTION, method="msg", sampling=Sampling(seed=seed)) for seed in range(8))
            )
            assert all(trace.stages == WORDS for trace in found)
            used = {way for body in (*first.bodies, *second.bodies) for way in FIELDS if way in body}
            assert {"guided_json", "response_format"} <= used
