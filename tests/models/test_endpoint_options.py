"""Top-k, min-p and repetition penalty at servers: found out, sent by their fields, or refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from endpoint_double import Double

from llava_cot.errors import ModelError
from llava_cot.models.base import OPTIONAL_SAMPLING, Prompt, Sampling
from llava_cot.models.endpoint.balancing import BalancedModel
from llava_cot.models.endpoint.client import EndpointModel
from llava_cot.models.endpoint.config import Provider
from llava_cot.models.scripted import ScriptedModel

SAMPLING = Sampling(top_k=7, min_p=0.1, repetition_penalty=1.2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def double(**more: Any) -> Double:
    return Double(ScriptedModel(lambda prompt, rng: "yes"), **more)


@contextmanager
def opened(server: Double, **more: Any) -> Iterator[EndpointModel]:
    with closing(EndpointModel(Provider(url=server.url, **more), None, {})) as model:
        yield model


def test_a_server_that_checks_a_field_has_it() -> None:
    for fields in ((), ("top_k",), ("min_p", "repeat_penalty")):
        for strict in (True, False):
            with double(options=fields, strict=strict) as server, opened(server) as model:
                assert model.capabilities.option_fields == fields
                with opened(server) as again:
                    assert again.capabilities == model.capabilities


@pytest.mark.parametrize(
    ("owner", "penalty"),
    [
        ("vllm", {"repetition_penalty": 1.2}),
        ("sglang", {"repetition_penalty": 1.2}),
        ("llamacpp", {"repeat_penalty": 1.2, "repeat_last_n": -1}),
    ],
)
async def test_servers_that_are_known_get_their_own_fields(owner: str, penalty: dict[str, Any]) -> None:
    with double(owner=owner) as server, opened(server) as model:
        assert model.sampling_options == OPTIONAL_SAMPLING
        server.bodies.clear()
        await model.sample(Prompt.of("q"), 1, Sampling())
        await model.sample(Prompt.of("q"), 1, SAMPLING)
        plain, full = server.bodies
        assert full == plain | {"top_k": 7, "min_p": 0.1, **penalty}
        assert "top_k, min_p, repetition_penalty" in model.describe()


@pytest.mark.parametrize("option", OPTIONAL_SAMPLING)
async def test_what_a_server_does_not_have_is_refused_before_any_request(option: str) -> None:
    with double() as server, opened(server) as model:
        server.bodies.clear()
        given = Sampling(**{option: getattr(SAMPLING, option)})
        with pytest.raises(ModelError, match=rf"scripted at http\S+ does not support {option}; leave it out"):
            await model.sample(Prompt.of("q"), 1, given)
        assert server.bodies == []


async def test_the_users_file_has_the_last_word() -> None:
    with double() as server, opened(server, option_fields=("top_k",)) as model:
        await model.sample(Prompt.of("q"), 1, Sampling(top_k=3))
        assert server.bodies[-1]["top_k"] == 3
    with double(owner="vllm") as server, opened(server, option_fields=()) as model:
        assert model.sampling_options == ()


@pytest.mark.parametrize(
    ("other", "common"), [("llamacpp", OPTIONAL_SAMPLING), ("someone", ())], ids=["same", "none"]
)
async def test_several_servers_have_what_each_of_them_has(other: str, common: Sequence[str]) -> None:
    with double(owner="vllm") as first, double(owner=other) as second:
        providers = [Provider(url=server.url, prefix="continue") for server in (first, second)]
        with closing(BalancedModel(providers, None, {})) as model:
            assert tuple(model.sampling_options) == tuple(common)
