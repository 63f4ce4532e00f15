"""The whole of mini's road, in small: killed and started again, it ends with the same weights."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import ROOT
from safetensors.torch import load_file

from llava_cot.core.files import read_recipe
from llava_cot.errors import DataError
from research.mini.recipe import MiniRecipe
from research.mini.run import begin

SMALL = """
out: {out}
pictures: 40
steps:
  - {{name: seeing, shares: {{seeing: 1}}, steps: 8, batch: 4, muon: 0.01, rate: 1.5e-3}}
  - {{name: describing, shares: {{descriptions: 1}}, steps: 4, batch: 4, muon: 0.01, rate: 2.0e-3,
     ground: true}}
  - {{name: answering, shares: {{descriptions: 1, perception: 1, texts: 1}}, steps: 6, batch: 4, muon: 0.008,
     rate: 2.0e-3}}
"""
DRIVER = """
from research.mini.__main__ import main
from research.mini import model, pictures, training
model._TEXTS = 100
pictures._CHUNK = 20
training._SAVE_EVERY, training._LOG_EVERY = 2, 1
main()
"""


def start(recipe: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(recipe), *options],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(recipe: Path, *options: str) -> str:
    run = start(recipe, *options)
    _, told = run.communicate(timeout=300)
    assert run.returncode == 0, told
    return told


def test_killed_and_started_again_it_ends_the_same(tmp_path: Path) -> None:
    runs = [tmp_path / "a", tmp_path / "b"]
    for run in runs:
        run.mkdir()
        (run / "small.yaml").write_text(SMALL.format(out=run / "out"))
    finish(runs[0] / "small.yaml")
    interrupted = start(runs[1] / "small.yaml")
    assert interrupted.stderr is not None
    for line in interrupted.stderr:
        if line.startswith("answering 3/"):
            break
    time.sleep(0.05)
    interrupted.send_signal(signal.SIGKILL)
    interrupted.wait()
    told = finish(runs[1] / "small.yaml", "--resume")
    assert "answering 3/" in told and "seeing" not in told  # what was done is not done again
    assert "Loading" not in told
    for name in ("model/model.safetensors", "answering/heads.safetensors"):
        first, second = (load_file(run / "out" / name) for run in runs)
        assert first.keys() == second.keys()
        assert all(first[key].equal(second[key]) for key in first), name


def test_a_run_is_gone_on_with_only_if_that_is_said_and_it_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.format(out=tmp_path / "out"))
    recipe = read_recipe(path, MiniRecipe)
    begin(recipe, resume=False)
    begin(recipe, resume=True)
    with pytest.raises(DataError, match="add --resume"):
        begin(recipe, resume=False)
    path.write_text(SMALL.format(out=tmp_path / "out").replace("steps: 6", "steps: 7"))
    changed = read_recipe(path, MiniRecipe)
    with pytest.raises(DataError, match="started with other steps"):
        begin(changed, resume=True)
    path.write_text(SMALL.format(out=tmp_path))
    other = read_recipe(path, MiniRecipe)
    with pytest.raises(DataError, match="holds other files"):
        begin(other, resume=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("pictures: 40", ""), "pictures: "),
        (("batch: 4", "batch: 0"), "steps.0"),
        (("shares: {seeing: 1}", "shares: {seeing: 1, texts: 1}"), "takes a step of its own"),
        (("pictures: 40", "pictures: 40\npicture: 3"), "picture: "),
    ],
)
def test_a_wrong_field_is_named(change: tuple[str, str], told: str, tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.format(out="out").replace(*change, 1))
    with pytest.raises(DataError, match=told) as raised:
        read_recipe(path, MiniRecipe)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_the_recipe_is_whole() -> None:
    recipe = read_recipe(ROOT / "research/mini/mini-base.yaml", MiniRecipe)
    assert [step.ground for step in recipe.steps] == [False, False, True, False]
