"""Kinds of models that another package adds: KIND:NAME."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fake_package import install

from llava_cot import open_model
from llava_cot.errors import ModelError
from llava_cot.models.registry import MODELS, ModelName, parse_model

MODULE = """
from llava_cot.models.scripted import ScriptedModel

class Echo(ScriptedModel):
    def __init__(self, name, options):
        super().__init__(lambda prompt, rng: prompt.messages[-1].text)
        self.name, self.options = name, options

    def close(self):
        self.options = None

def open_echo(name, **options):
    return Echo(name, options)
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = {
        "echo": "echo_models:open_echo",
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
        assert (options["dtype"], options["cache_mb"], options["share"]) == ("auto", 2048, True)
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
