"""Checkpoints that bring their own code: not run unless the user says so, and named before."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_double import running_hub, use_hub
from opening import Tiny, noise
from safetensors.torch import save_file

from llava_cot.errors import ModelError
from llava_cot.models.base import Message, Prompt
from llava_cot.models.registry import open_model

CODE = """
import pathlib, sys
from transformers import LlavaConfig, LlavaForConditionalGeneration
sys.code_that_ran = True

class TheirsConfig(LlavaConfig):
    model_type = "theirs"

class Theirs(LlavaForConditionalGeneration):
    config_class = TheirsConfig
"""
PROMPT = Prompt((Message("user", "How many?", (noise(1),)),))


@pytest.fixture
def theirs(
    copy: Path, opened: Callable[[str], Tiny], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Path:
    """A LLaVA that calls itself something else, with code."""
    weights = {name: one.contiguous() for name, one in opened("llava").network.state_dict().items()}
    save_file(weights, copy / "model.safetensors", {"format": "pt"})  # under the names of the network's parts
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.delattr(sys, "code_that_ran", raising=False)
    file = copy / "config.json"
    code = {
        "AutoConfig": "modeling_theirs.TheirsConfig",
        "AutoModelForImageTextToText": "modeling_theirs.Theirs",
    }
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_type": "theirs", "auto_map": code}))
    (copy / "modeling_theirs.py").write_text(CODE)
    return copy


def refusal(folder: Path | str, **settings: bool) -> str:
    with pytest.raises(ModelError) as refused:
        open_model(folder, device="cpu", **settings)  # type: ignore[arg-type]
    return str(refused.value)


def test_it_is_not_run_by_default(theirs: Path) -> None:
    message = refusal(theirs)
    assert "needs code of its own to run (modeling_theirs.py)" in message
    assert message.endswith("add --trust-remote-code")
    assert not hasattr(sys, "code_that_ran")


async def test_it_is_run_and_named(theirs: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = open_model(theirs, device="cpu", trust_remote_code=True)
    assert f"running the code of {theirs}: modeling_theirs.py (" in caplog.text
    own = await model.choose(PROMPT, ["Yes", "No"])
    model.close()
    assert sys.code_that_ran  # type: ignore[attr-defined]
    file = theirs / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_type": "llava"}))
    caplog.clear()
    known = open_model(theirs, device="cpu", trust_remote_code=True)  # transformers' own is taken
    assert await known.choose(PROMPT, ["Yes", "No"]) == own
    known.close()
    assert "running the code" not in caplog.text


@pytest.mark.parametrize(
    "name", ["org/other--modeling_theirs.Theirs", "../modeling.Theirs", "missing.Theirs"]
)
def test_code_from_elsewhere_is_not_run(theirs: Path, name: str) -> None:
    (theirs.parent / "modeling.py").write_text(CODE)
    file = theirs / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"auto_map": {"AutoConfig": name}}))
    assert "names code that is not in its folder" in refusal(theirs, trust_remote_code=True)
    assert not hasattr(sys, "code_that_ran")


def test_code_that_fails(theirs: Path) -> None:
    (theirs / "modeling_theirs.py").write_text(CODE + "\nraise RuntimeError('no luck')\n")
    assert "no luck" in refusal(theirs, trust_remote_code=True)


async def test_code_on_the_hub_is_not_even_fetched(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_hub() as hub:
        use_hub(hub, tmp_path / "hf", monkeypatch)
        hub.add("org/theirs", theirs)
        assert refusal("org/theirs").startswith(
            "org/theirs needs code of its own to run (modeling_theirs.py)"
        )
        assert hub.asked_for("modeling_theirs.py") == 0
        model = open_model("org/theirs", device="cpu", trust_remote_code=True)
        assert hub.asked_for("modeling_theirs.py") == 1
        model.close()


def test_other_models_run_none() -> None:
    assert "drop it" in refusal("http://127.0.0.1:9/v1", trust_remote_code=True)
