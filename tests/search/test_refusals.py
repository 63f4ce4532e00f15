"""Choices that cannot work are refused in the same words wherever they enter: they are checked in one place.

The ways in are Python, the command line, the one-word specs of `eval`, and HTTP.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from serving import ASK, PATIENCE, Served, served

from llava_cot import ask_sync, make_request
from llava_cot.cli.main import main
from llava_cot.errors import RequestError
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.calibration import Calibration
from llava_cot.search.methods import METHODS
from llava_cot.search.request import parse_spec
from llava_cot.search.resources import Resources

# What was chosen, the field at fault, and words of the message.
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"method": "magic"}, "method", "there is no method 'magic'; choose one of "),
    ({"n": 0}, "n", "n is 0; a question needs at least one candidate"),
    ({"method": "best-of-n", "n": -3}, "n", "n is -3"),
    *(
        ({"method": name, "n": 2}, "n", f"{name} takes one sample, not 2; use n = 1")
        for name, declared in METHODS.items()
        if declared.single
    ),
    ({"method": "majority", "judge": "self"}, "judge", "majority uses no judge; drop it"),
    ({"method": "single", "judge": "self"}, "judge", "single uses no judge"),
    ({"method": "stage-beam", "judge": "coin"}, "judge", "there is no judge 'coin'; choose one of self, "),
    ({"method": "stage-beam", "judge": ""}, "judge", "there is no judge ''"),
    *(
        ({"method": name, "judge": "self"}, "judge", f"{name} needs scores, and self gives none; choose")
        for name, declared in METHODS.items()
        if declared.scores
    ),
    (
        {"method": "adaptive-best-of-n", "judge": "likelihood"},
        "judge",
        "needs probabilities, and the scores of likelihood are none; "
        "choose one of logits, prm, critic, rules",
    ),
    ({"method": "single", "budget": 9}, "budget", "single keeps to no budget; drop it, or choose one of "),
    ({"method": "adaptive-majority", "n": 4, "budget": 9}, "budget", "adaptive-majority keeps to no budget"),
    ({"method": "stage-beam", "budget": 0}, "budget", "the budget is 0 tokens; give at least 1"),
    ({"method": "prism"}, "method", "prism needs a second model that reasons; pass one with --reasoner"),
    ({"method": "cot-few-shot"}, "method", "cot-few-shot needs worked examples; pass one with --examples"),
    ({"method": "best-of-n", "judge": "reward"}, "judge", "reward needs a reward model; pass one with --ju"),
    ({"method": "swires", "judge": "likelihood"}, "method", "swires needs a calibration, as "),
    # The first fault of several.
    ({"method": "magic", "n": 0, "judge": "coin", "budget": 0}, "method", "there is no method"),
    ({"method": "prism", "n": 0, "judge": "coin", "budget": 0}, "n", "n is 0"),
    ({"method": "prism", "judge": "coin", "budget": 0}, "budget", "prism keeps to no budget"),
    ({"method": "prism", "judge": "coin"}, "judge", "prism uses no judge"),
]
every_refusal = pytest.mark.parametrize(
    ("choices", "field", "words"), REFUSED, ids=[str(choices) for choices, _, _ in REFUSED]
)


def refusal(**choices: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        make_request(**choices)
    return caught.value


@every_refusal
def test_in_one_sentence_that_names_the_field(choices: dict[str, Any], field: str, words: str) -> None:
    error = refusal(**choices)
    assert error.field == field and words in str(error) and "\n" not in str(error)


@every_refusal
def test_from_python_before_the_model_is_used(choices: dict[str, Any], field: str, words: str) -> None:
    model = ScriptedModel({})
    with pytest.raises(RequestError) as caught:
        ask_sync(model, None, "q", **choices)
    assert (str(caught.value), caught.value.field) == (str(refusal(**choices)), field)
    assert model.calls == model.choices == []


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The models that a command opened."""
    found: list[Any] = []
    monkeypatch.setattr("llava_cot.models.registry.open_model", lambda *given, **_: found.append(given))
    return found


@every_refusal
def test_from_the_command_line_before_a_model_is_opened(
    choices: dict[str, Any],
    field: str,
    words: str,
    opened: list[Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = [part for name, value in choices.items() for part in (_option(name), str(value))]
    monkeypatch.setattr(sys, "argv", ["llava-cot", "ask", "none", "How many?", *options])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert (stopped.value.code, opened) == (2, [])
    assert capsys.readouterr() == ("", f"llava-cot: {refusal(**choices)}\n")


def _option(name: str) -> str:
    return "-n" if name == "n" else f"--{name}"


@every_refusal
def test_from_a_spec(choices: dict[str, Any], field: str, words: str) -> None:
    given = {"method": "stage-beam"} | choices
    if any(given.get(name, 1) < 1 for name in ("n", "budget")):
        pytest.skip("a spec has no such numbers")
    text = given["method"]
    text += f"-{given['n']}" if "n" in given else ""
    text += f"-within-{given['budget']}" if "budget" in given else ""
    text += f"@{given['judge']}" if "judge" in given else ""
    with pytest.raises(RequestError) as caught:
        parse_spec(text).request()
    assert caught.value.field == field
    expected = str(refusal(**choices))
    if field == "method" and "no method" in words:  # the spec's own list has the forms of names
        assert str(caught.value).partition(";")[0] == expected.partition(";")[0]
    else:
        assert str(caught.value) == expected


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(ScriptedModel({})) as running:
        yield running


@every_refusal
@pytest.mark.parametrize("stream", [False, True])
def test_from_http(server: Served, choices: dict[str, Any], field: str, words: str, stream: bool) -> None:
    body = {"model": "scripted", "messages": ASK, "search": choices, "stream": stream}
    reply = httpx.post(f"{server.url}/chat/completions", json=body, timeout=PATIENCE)
    error = reply.json()["error"]
    assert (reply.status_code, error["type"]) == (400, "invalid_request_error")
    if any(choices.get(name, 1) < 1 for name in ("n", "budget")):  # bounds of the field, in the schema
        assert error["param"] in ("search.n", "search.budget")
        return
    expected = refusal(**choices)
    assert error["param"] == f"search.{field}"
    if expected.needs is None:
        assert error["message"] == str(expected)
    else:
        problem = str(expected).partition(";")[0]
        assert error["message"] == f"{problem}, and this server has none; choose another method or judge"


def test_a_calibration_of_another_judge() -> None:
    given = Resources(calibration=Calibration("rules", 0.5, 1.0))
    expected = "--calibration was made for the judge rules, but this run uses logits: pass one for logits"
    with pytest.raises(RequestError, match=expected) as caught:
        make_request("swires", judge="logits", resources=given)
    assert caught.value.field == "calibration"
    with pytest.raises(RequestError, match=expected):
        ask_sync(ScriptedModel({}), None, "q", method="swires", judge="logits", resources=given)
    # A method without a cut-off has no use for it.
    assert make_request("best-of-n", judge="logits", resources=given).judge == "logits"


@pytest.mark.parametrize(
    "used", [lambda: make_request("stage-beam"), lambda: parse_spec("stage-beam").request()]
)
def test_what_works_is_the_same_request_in_every_way(used: Callable[[], Any]) -> None:
    request = used()
    assert request == make_request()
    assert (request.method, request.n, request.judge, request.budget) == ("stage-beam", 2, "self", None)
