"""top_k, min_p and repetition_penalty from every way in to the model, and into the trace."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from eval_runs import Moody, contents, numbers
from eval_runs import run as evaluate
from playing import PICTURE, WHOLE, remainder, resources_for
from serving import ASK, PATIENCE, Served, noisy, served

from llava_cot import ask, ask_sync
from llava_cot.cli.main import main
from llava_cot.core.question import Question
from llava_cot.core.trace import Trace
from llava_cot.errors import ModelError
from llava_cot.models.base import OPTIONAL_SAMPLING, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.methods import METHODS
from llava_cot.search.resources import Resources
from llava_cot.view.describe import describe_request

OPTIONS: dict[str, Any] = {"top_k": 5, "min_p": 0.125, "repetition_penalty": 1.25}
FLAGS = ("--top-k", "5", "--min-p", "0.125", "--repetition-penalty", "1.25")


def given(model: ScriptedModel) -> list[dict[str, Any]]:
    """The options of each call."""
    return [{name: getattr(call.sampling, name) for name in OPTIONS} for call in model.calls]


def test_these_are_all() -> None:
    assert set(OPTIONS) == set(OPTIONAL_SAMPLING)


@pytest.mark.parametrize("method", METHODS)
async def test_every_call_of_a_method_and_its_judge_has_them(method: str) -> None:
    model, resources = ScriptedModel(noisy), resources_for(METHODS[method].judge)
    n = None if METHODS[method].single else 3
    trace = await ask(
        model, PICTURE, Question("How many?"), method=method, n=n, sampling=Sampling(**OPTIONS),
        resources=resources,
    )  # fmt: skip
    assert trace.sampling == OPTIONS
    calls = given(model) + given(resources.reasoner)  # type: ignore[arg-type]
    assert calls and all(options == OPTIONS for options in calls)


def test_the_trace_has_those_that_were_set_and_no_key_if_none_was(tmp_path: Path) -> None:
    def saved(**options: Any) -> dict[str, Any]:
        model = ScriptedModel(remainder(WHOLE))
        trace = ask_sync(model, None, "q", method="single", sampling=Sampling(**options))
        trace.save(tmp_path / "trace.json")
        assert Trace.load(tmp_path / "trace.json") == trace
        found: dict[str, Any] = json.loads((tmp_path / "trace.json").read_text())
        return found

    assert saved(**OPTIONS)["sampling"] == OPTIONS
    assert saved(top_k=7, min_p=0.0, repetition_penalty=1.0)["sampling"] == {"top_k": 7}
    assert "sampling" not in saved() and "sampling" not in saved(temperature=0.1, top_p=0.2, seed=3)
    assert Trace.model_validate(saved(), strict=False).sampling == {}


def test_they_are_shown_with_the_trace() -> None:
    def shown(**options: Any) -> str:
        model = ScriptedModel(remainder(WHOLE))
        return describe_request(ask_sync(model, None, "q", method="single", sampling=Sampling(**options)))

    assert "top-p 0.9, top-k 5, min-p 0.125, repetition-penalty 1.25 · seed 0" in shown(**OPTIONS)
    assert "top-p 0.9 · seed 0" in shown()


class Closing(ScriptedModel):
    def close(self) -> None:
        pass


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ScriptedModel:
    opened = Closing(noisy)
    monkeypatch.setattr("llava_cot.models.registry.open_model", lambda *_, **__: opened)
    return opened


def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["llava-cot", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0), *capsys.readouterr()


def test_from_the_command_line(
    model: ScriptedModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    common = ("ask", "none", "How many?", "--json", "--trace", str(tmp_path / "trace.json"))
    status, out, err = command(capsys, monkeypatch, *common, *FLAGS)
    assert status == 0, err
    assert json.loads(out)["trace"]["sampling"] == OPTIONS
    assert given(model) and all(options == OPTIONS for options in given(model))
    _, out, _ = command(capsys, monkeypatch, *common)
    assert "sampling" not in json.loads(out)["trace"]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("top_k", "-1", "top_k is -1; give a whole number of at least 0"),
        ("min_p", "1.5", "min_p is 1.5; give a number of at least 0 and at most 1"),
        (
            "repetition_penalty",
            "0",
            "repetition_penalty is 0.0; give a number of at least 0.01",
        ),
    ],
)
def test_out_of_bounds(
    model: ScriptedModel,
    server: Served,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    value: str,
    words: str,
) -> None:
    flag = f"--{option.replace('_', '-')}"
    for verb in (
        ("ask", "none", "How many?"),
        ("judge", "calibrate", "--judge", "logits", "--out", "c.json"),
    ):
        status, out, err = command(capsys, monkeypatch, *verb, flag, value)
        assert (status, out, model.calls) == (2, "", [])
        assert err.startswith(f"llava-cot: {words.replace(option, flag)}") and err.count("\n") == 1
    status, reply = posted(server, **{option: float(value)})
    assert (status, reply["error"]["param"]) == (400, option)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(ScriptedModel(noisy)) as running:
        yield running


def posted(server: Served, **fields: Any) -> tuple[int, Any]:
    body = {"model": "scripted", "messages": ASK, "seed": 0, "include_trace": True} | fields
    reply = httpx.post(f"{server.url}/chat/completions", json=body, timeout=PATIENCE)
    return reply.status_code, reply.json()


def test_from_http() -> None:
    model = ScriptedModel(noisy)
    with served(model) as running:
        status, reply = posted(running, **OPTIONS)
        assert (status, reply["choices"][0]["trace"]["sampling"]) == (200, OPTIONS)
        assert given(model) and all(options == OPTIONS for options in given(model))
        status, reply = posted(running)
        assert status == 200 and "sampling" not in reply["choices"][0]["trace"]


def test_in_a_run(tmp_path: Path) -> None:
    model = Moody()
    assert evaluate(tmp_path, numbers(2), model, "single", sampling=Sampling(**OPTIONS)).failed == 0
    assert given(model) == [OPTIONS] * 2
    [rows] = contents(tmp_path).values()
    assert [trace.sampling for _, trace in rows.values()] == [OPTIONS] * 2


def test_from_eval_s_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[Any] = []

    def planned(folder: Path, plan: Any, **_: Any) -> None:
        plans.append(plan)
        raise ValueError("planned")

    monkeypatch.setattr("llava_cot.evaluation.run.evaluate", planned)
    verb = ("eval", "scenes:validation", "--model", "mini", "--out", str(tmp_path / "out"))
    assert command(capsys, monkeypatch, *verb, *FLAGS) == (2, "", "llava-cot: planned\n")
    assert [plan.sampling for plan in plans] == [Sampling(**OPTIONS)]


@pytest.mark.parametrize("option", OPTIONS)
async def test_a_model_without_them_refuses_by_name(option: str) -> None:
    model = ScriptedModel(remainder(WHOLE), sampling_options=())
    with pytest.raises(ModelError, match=f"scripted does not support {option}; leave it out"):
        await ask(model, None, "q", method="single", sampling=Sampling(**{option: OPTIONS[option]}))
    assert model.calls == []
    assert (await ask(model, None, "q", method="single")).answer == "2"


@pytest.mark.parametrize("used", ["reasoner", "judge_model"])
async def test_another_model_without_them_refuses_before_any_call(used: str) -> None:
    model, other = ScriptedModel(noisy), ScriptedModel(noisy, sampling_options=())
    kinds: dict[str, Any] = {"method": "prism"} if used == "reasoner" else {"method": "best-of-n", "n": 2}
    with pytest.raises(ModelError, match="scripted does not support top_k; leave it out"):
        await ask(
            model,
            PICTURE,
            "How many?",
            sampling=Sampling(top_k=5),
            resources=Resources(**{used: other}),
            **kinds,
        )
    assert model.calls == other.calls == []


@pytest.mark.parametrize(
    "kinds",
    [{"method": "single", "unused": "reasoner"}, {"method": "best-of-n", "judge": "logits", "n": 2}],
)
async def test_a_model_that_samples_nothing_may_be_without_them(kinds: dict[str, Any]) -> None:
    other = ScriptedModel(noisy, lambda prompt, options: [-1.0, -2.0], sampling_options=())
    resources = Resources(**{kinds.pop("unused", "judge_model"): other})
    trace = await ask(
        ScriptedModel(noisy), PICTURE, "How many?", sampling=Sampling(top_k=5), resources=resources, **kinds
    )
    assert trace.sampling == {"top_k": 5} and other.calls == []


def test_a_run_is_refused_before_its_folder_is_made(tmp_path: Path) -> None:
    model, folder = Moody(), tmp_path / "run"
    model.sampling_options = ()
    with pytest.raises(ModelError, match="scripted does not support top_k; leave it out"):
        evaluate(folder, numbers(2), model, "single", sampling=Sampling(top_k=5))
    assert not folder.exists() and model.calls == []
    assert evaluate(folder, numbers(2), model, "single").failed == 0


def test_the_spec_at_fault_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    verb = ("eval", "scenes:validation", "--model", "mini", "--out", str(tmp_path / "out"))
    specs = ("--method", "stage-beam-2", "--method", "best-of-2@nosuch")
    status, _, err = command(capsys, monkeypatch, *verb, *specs)
    assert status == 2 and err.startswith("llava-cot: best-of-2@nosuch: there is no judge 'nosuch'; choose")
