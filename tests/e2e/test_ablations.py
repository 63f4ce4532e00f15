"""Mini and its ablations as `llava-cot eval` has them: each answers, in the form that it was taught."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import ROOT, run

from llava_cot.evaluation.results import RunResults
from llava_cot.evaluation.types import RunKey
from llava_cot.models.registry import BUILT_IN
from research.paper.tasks import TRAINED

WEIGHTS = ROOT / "research/mini/weights"
MODELS = {**BUILT_IN, **{folder.name: folder for folder in WEIGHTS.iterdir()}}
# What each reaches of 24 questions at least, well below what it has on more of them (docs/results).
FLOORS = {"mini": 80, "mini-untagged": 70, "mini-direct": 25}
FORMS = {
    "mini": lambda text: text.startswith("<SUMMARY>") and text.endswith("</CONCLUSION>"),
    "mini-untagged": lambda text: "<" not in text and len(text.splitlines()) > 1,
    "mini-direct": lambda text: len(text.split()) == 1,
}


def test_each_way_of_training_has_its_model() -> None:
    assert set(TRAINED) == set(MODELS) == set(FORMS)
    assert all((folder / "README.md").is_file() for folder in MODELS.values())


@pytest.mark.parametrize("name", MODELS)
def test_each_model_answers_in_its_form(name: str, tmp_path: Path) -> None:
    done = run(
        *(
            "eval",
            "scenes:validation",
            "--model",
            f"{name}={MODELS[name]}",
            "--method",
            "greedy",
            "--stages",
            "trained",
            "--answer",
            TRAINED[name],
        ),
        *("--limit", "24", "--max-tokens", "200", "--out", tmp_path / "out", "--json"),
    )
    assert done.returncode == 0, done.stderr
    [line] = json.loads(done.stdout)["results"]
    assert line["score"]["value"] > FLOORS[name]
    setting = RunKey("scenes:validation", name, "greedy", 0)
    with RunResults([tmp_path / "out"]) as results:
        for result in results.results(setting):
            trace = results.trace(setting, result.item)
            assert trace is not None and FORMS[name](trace.text), trace.text
