"""Kinds of models that another package adds: KIND:NAME."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fake_package import install

from llava_cot import open_model
from llava_cot.core.question import Question
from llava_cot.errors import ModelError
from llava_cot.models.base import Prompt
from llava_cot.models.registry import MODELS, ModelName, open_reward, parse_model
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.ask import answer
from llava_cot.search.request import make_request
from llava_cot.search.resources import ResourceOptions, for_requests, read_resources

MODULE = """
from llava_cot.models.base import Reward
from llava_cot.models.scripted import ScriptedModel

class Echo(ScriptedModel):
    def __init__(self, name, options):
        super().__init__(lambda prompt, rng: prompt.messages[-1].text)
        self.name, self.options = name, options

    def close(self):
        self.options = None

class Rewarding(Echo):
    async def reward(self, prompt, answer):
        return Reward(float(len(answer)))

def open_echo(name, **options):
    return Echo(name, options)

def open_rewarding(name, **options):
    return Rewarding(name, options)
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = {
        "echo": "echo_models:open_echo",
        "rewarding": "echo_models:open_rewarding",
        "broken": "echo_models:nothing",
        "http": "echo_models:open_echo",
    }
    monkeypatch.syspath_prepend(
        install(tmp_path, "echo-models", {"llava_cot.models": points}, echo_models=MODULE)
    )
    monkeypatch.setattr(MODELS, "_entry_points", None)
    monkeypatch.setattr(MODELS, "_entries", {})
    monkeypatch.delitem(sys.modules, "echo_models", raising=False)


def test_it_is_opened_with_what_follows_the_colon_and_the_options() -> None:
    with closing(open_model("echo:http://a:1/v1", model_name="b", device="cpu", in_flight=3)) as model:
        assert model.name == "http://a:1/v1"
        options: dict[str, Any] = model.options  # type: ignore[attr-defined]
        assert (options["model_name"], options["device"], options["in_flight"]) == ("b", "cpu", 3)
        assert (options["dtype"], options["cache_mb"], options["share"]) == ("auto", "auto", True)
    assert model.options is None  # type: ignore[attr-defined]


def test_its_name_alone_opens_it_too_and_goes_before_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "echo").mkdir()
    with closing(open_model("echo")) as model:
        assert model.name == ""
    assert parse_model("mini").kind == "built-in"
    assert parse_model("echo") == ModelName("plugin", "", plugin="echo")
    assert parse_model("vllm:echo") == ModelName("vllm", "echo")
    assert parse_model(".").kind == "folder"
    assert parse_model("http://127.0.0.1:9/v1,https://b:1/v1").kind == "server"
    assert parse_model("no such").kind == "folder"


def test_what_cannot_be_opened_is_an_error_of_one_sentence() -> None:
    with pytest.raises(
        ValueError, match=r"the kind of model 'broken' of the package echo-models cannot be loaded"
    ):
        open_model("broken:a")
    with pytest.raises(ModelError, match="other:a"):
        open_model("other:a")


def test_addresses_and_paths_are_not_kinds(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"http://127\.0\.0\.1:9"):
        open_model("http://127.0.0.1:9/v1")
    (tmp_path / "echo:folder").mkdir()
    with pytest.raises(ModelError, match=r"config\.json"):
        open_model(tmp_path / "echo:folder")


async def test_one_that_gives_rewards_is_a_reward_model() -> None:
    with closing(open_reward("rewarding:r", device="cpu")) as reward:
        assert (await reward.reward(Prompt.of("q"), "abc")).value == 3.0
    with pytest.raises(ModelError, match="echo:r gives no rewards; name a reward model"):
        open_reward("echo:r")


@pytest.mark.parametrize(
    ("judge", "kind"), [("reward", "rewarding"), ("self", "rewarding"), ("self", "echo")]
)
async def test_it_judges_in_either_way(judge: str, kind: str) -> None:
    spec = read_resources(ResourceOptions(judge_model=f"{kind}:r"))
    request = make_request("best-of-n", n=2, judge=judge, resources=spec)
    with for_requests(spec, [request]).open() as resources:
        trace = await answer(
            request, ScriptedModel(lambda p, rng: str(rng.random())), Question("q"), resources
        )
    assert trace.judge_model == "r"
