"""Runs whose methods have more than a model: opened once, and kept apart in the folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eval_runs import Moody, contents, entry, numbers, plan
from extra_methods import extra_methods
from teachers import staged

from llava_cot.cli.main import main
from llava_cot.core.question import Question
from llava_cot.data.store import Store
from llava_cot.errors import DataError, ModelError, StoreError
from llava_cot.evaluation.plan import plan_models
from llava_cot.evaluation.results import RunResults
from llava_cot.evaluation.run import evaluate
from llava_cot.models.base import Model
from llava_cot.search.request import parse_spec
from llava_cot.search.resources import Example, ResourceOptions, ResourceSpec, for_requests, read_resources
from llava_cot.view.report_page import write_report


@pytest.fixture(autouse=True)
def methods() -> Iterator[None]:
    with extra_methods():
        yield


class Closing(Moody):
    open_now = 0

    def __init__(self, spec: str) -> None:
        super().__init__(lambda prompt, rng: staged(spec)[len(prompt.prefix) :])
        type(self).open_now += 1
        self.spec = spec

    def close(self) -> None:
        type(self).open_now -= 1


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is opened by its name, in order; all of it is closed at the end."""
    names: list[str] = []

    def open_model(spec: str, **settings: Any) -> Closing:
        names.append(spec)
        return Closing(spec)

    monkeypatch.setattr("llava_cot.models.registry.open_model", open_model)
    monkeypatch.setattr("llava_cot.evaluation.plan.open_model", open_model)
    yield names
    assert Closing.open_now == 0


def go(folder: Path, *specs: str, resources: ResourceSpec | None = None, **others: Any) -> Moody:
    model = Moody()
    work = plan(numbers(3), entry(model), *specs, resources=resources or ResourceSpec(), **others)
    assert evaluate(folder, work).failed == 0
    return model


def reasoning(spec: str) -> ResourceSpec:
    return ResourceSpec(reasoner=spec)


def test_a_reasoner_is_opened_once_for_all_models_and_not_without_need(
    tmp_path: Path, opened: list[str]
) -> None:
    work = plan(numbers(3), Moody(), "relay", "single", resources=reasoning("7"))
    work = replace(work, models=(entry(Moody(), "one"), entry(Moody(), "two")))
    assert evaluate(tmp_path, work).failed == 0
    assert opened == ["7"]
    rows = {
        setting: [one.conclusion for one, _ in found.values()]
        for setting, found in contents(tmp_path).items()
    }
    assert [row == ["7"] * 3 for row in rows.values()] == [True, False] * 2
    assert evaluate(tmp_path, work).failed == 0
    assert opened == ["7"]


def test_a_model_that_is_its_own_reasoner_is_opened_once(tmp_path: Path, opened: list[str]) -> None:
    resources = reasoning("7")
    models = plan_models(
        ["7", "8"], model_name=None, at_once=None, hardware={"device": "cpu"}, known=resources.opened
    )
    work = replace(plan(numbers(1), Moody(), "relay", resources=resources), models=models)
    assert evaluate(tmp_path, work).failed == 0
    assert opened == ["7", "8"]


def test_a_folder_does_not_mix_resources(tmp_path: Path, opened: list[str]) -> None:
    go(tmp_path, "relay", "single", "best-of-2", resources=reasoning("7"))
    before = contents(tmp_path)
    with pytest.raises(StoreError, match="runs of relay with --reasoner 7, and this run has 8; use the same"):
        go(tmp_path, "relay", resources=reasoning("8"))
    with pytest.raises(StoreError, match="runs of best-of-2 with --judge-model none, and this run has 8"):
        go(tmp_path, "best-of-2", resources=ResourceSpec(judge_model="8"))
    assert contents(tmp_path) == before
    go(tmp_path, "best-of-3", resources=ResourceSpec(judge_model="8"))
    with pytest.raises(StoreError, match="runs of best-of-3 with --judge-model 8, and this run has none"):
        go(tmp_path, "best-of-3")
    assert go(tmp_path, "single", "best-of-2").tries == 0


@pytest.mark.slow
def test_reports_name_resources_and_do_not_mix_them(tmp_path: Path, opened: list[str]) -> None:
    for spec, seed in (("7", 0), ("8", 1)):
        go(tmp_path / spec, "relay", "single", resources=reasoning(spec), seeds=(seed,))
    with RunResults([tmp_path / "7"]) as results:
        write_report(results, tmp_path / "report")
    said = (tmp_path / "report" / "report.md").read_text()
    assert "Besides the model, relay had --reasoner 7." in said
    with pytest.raises(DataError, match=r"relay in .* had --reasoner 8, and in a folder before it --re"):
        RunResults([tmp_path / "7", tmp_path / "8"])


def test_examples_are_compared_by_their_content(tmp_path: Path) -> None:
    def showing(*answers: str) -> ResourceSpec:
        return ResourceSpec(examples=tuple(Example(Question("What?"), answer) for answer in answers))

    go(tmp_path, "shower", resources=showing("one", "two"))
    assert go(tmp_path, "shower", resources=showing("one", "two")).tries == 0
    with pytest.raises(StoreError, match="runs of shower with --examples"):
        go(tmp_path, "shower", resources=showing("two", "one"))


def test_a_folder_without_resources_can_be_resumed(tmp_path: Path) -> None:
    go(tmp_path, "single", "best-of-2")
    with Store(tmp_path) as store:
        assert "method" not in store.counts() and "--reasoner" not in str(store.settings())


def test_a_budget_comes_with_the_method(tmp_path: Path) -> None:
    file = tmp_path / "calibration"
    file.write_text("asking 0")
    specs = ("cutter-4-within-50@asking", "cutter-4@asking")
    named = read_resources(
        ResourceOptions(calibration=str(file), judge_model="long"), hardware={"device": "cpu"}
    )
    resources = for_requests(named, [parse_spec(spec).request(resources=named) for spec in specs])
    go(tmp_path / "out", *specs, resources=resources)
    found = {setting.method: rows for setting, rows in contents(tmp_path / "out").items()}
    assert {name: {trace.budget for _, trace in rows.values()} for name, rows in found.items()} == {
        "cutter-4-within-50@asking": {50},
        "cutter-4@asking": {None},
    }
    assert all(one.oracle is not None for one, _ in found["cutter-4@asking"].values())


def test_another_model_that_is_not_there_leaves_the_folder_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(spec: str, **settings: Any) -> Model:
        raise ModelError(f"there is no folder {spec}")

    monkeypatch.setattr("llava_cot.models.registry.open_model", none)
    with pytest.raises(ModelError, match="no folder nowhere"):
        go(tmp_path, "relay", resources=reasoning("nowhere"))
    with closing(Store(tmp_path)) as store:
        assert not {"method", "setting", "trace"} & set(store.counts())


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["llava-cot", "eval", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_the_command(
    tmp_path: Path, opened: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("scenes:validation", "--limit", "2", "--model", "8", "--out", tmp_path / "out", "-q", "--json")
    assert call(monkeypatch, *common, "--method", "relay", "--method", "single", "--reasoner", "8") == 0
    told = json.loads(capfd.readouterr().out)
    assert [(line["method"], line["calls"]) for line in told["results"]] == [("relay", 2), ("single", 1)]
    assert opened == ["8"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--method relay", "relay needs a second model that reasons"),
        (
            "--method relay --method single --judge-model 8 --reasoner 8",
            "--judge-model is only used by the judges",
        ),
        ("--method relay --reasoner 8 --ray local", "--ray has each worker open one model"),
        ("--method single-within-9", "the method single keeps to no budget"),
    ],
)
def test_what_is_refused(
    tmp_path: Path,
    opened: list[str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    words: str,
) -> None:
    out = tmp_path / "out"
    status = call(monkeypatch, "scenes:validation", "--model", "8", "--out", out, *arguments.split())
    told = capfd.readouterr()
    assert (status, told.out, told.err.count("\n"), opened) == (2, "", 1, [])
    assert words in told.err and not out.exists()
