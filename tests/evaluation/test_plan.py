import random
from pathlib import Path

import pytest
from endpoint_double import Double

from llava_cot.evaluation.plan import PlannedModel, plan_models
from llava_cot.models.base import Prompt
from llava_cot.models.scripted import ScriptedModel


def opened(*models: str, at_once: int | None = None) -> tuple[PlannedModel, ...]:
    return plan_models(models, model_name=None, at_once=at_once, hardware={"device": "cpu"})


def test_models_can_be_given_names(tmp_path: Path) -> None:
    first, second, third = opened("mini", "small=mini", f"own={tmp_path}/./")
    assert [(entry.name, entry.spec) for entry in (first, second, third)] == [
        ("mini", "mini"), ("small", "mini"), ("own", str(tmp_path))
    ]  # fmt: skip
    with pytest.raises(ValueError, match="two models have the name mini"):
        opened("mini", "mini=elsewhere")


def test_an_address_is_no_name() -> None:
    [entry] = opened("http://127.0.0.1:1/v1")
    assert entry.name == entry.spec == "http://127.0.0.1:1/v1"


def test_as_many_at_once_as_the_model_likes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with opened("mini")[0].open(print) as (_, at_once):
        assert at_once == 64

    def script(prompt: Prompt, rng: random.Random) -> str:
        return "yes"

    with Double(ScriptedModel(script), owner="vllm") as double:
        with opened(double.url)[0].open(print) as (_, at_once):
            assert at_once == 256
        with opened(double.url, at_once=7)[0].open(print) as (_, at_once):
            assert at_once == 7
