"""What methods and judges want besides the model, from the command line to where it is used."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from extra_methods import Lengths, Openings, extra_methods
from playing import PICTURE, WHOLE, registered, tagged

from llava_cot import ask_sync
from llava_cot.cli.main import main
from llava_cot.core.question import Question
from llava_cot.errors import ModelError
from llava_cot.models.base import Prompt
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.calibration import Calibration
from llava_cot.search.methods import METHODS
from llava_cot.search.request import parse_spec
from llava_cot.search.resources import (
    Example,
    ResourceOptions,
    Resources,
    ResourceSpec,
    for_requests,
    read_resources,
)

OTHER = tagged("caption", "Seen.") + tagged("conclusion", "7")


class Opened(ScriptedModel):
    """Says its own answer, and chooses the first response."""

    def __init__(self, spec: str, **settings: Any) -> None:
        whole = {"mini": tagged("caption", "Seen.") + tagged("conclusion", "2"), "other": OTHER}.get(spec)
        if whole is None:
            raise ModelError(f"there is no folder {spec}")

        def script(prompt: Prompt, rng: Any) -> str:
            if "I choose response" in prompt.messages[-1].text:
                return "I choose response 1."
            return whole[len(prompt.prefix) :].replace("</CON", f"{'.' * rng.randrange(1, 9)}</CON")

        super().__init__(script)
        self.name, self.settings, self.closed = spec, settings, False

    def close(self) -> None:
        self.closed = True

    @property
    def judged(self) -> bool:
        return any("I choose response" in call.prompt.messages[-1].text for call in self.calls)


class Models(list[Opened]):
    def __call__(self, spec: str, **settings: Any) -> Opened:
        self.append(Opened(spec, **settings))
        return self[-1]


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Models:
    opened = Models()
    monkeypatch.setattr("llava_cot.models.registry.open_model", opened)
    return opened


@pytest.fixture(autouse=True)
def openings() -> Iterator[Openings]:
    with extra_methods() as openings:
        yield openings


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A command in this process: exit status, output, errors."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["llava-cot", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return int(stopped.value.code or 0), *capfd.readouterr()

    return run


@pytest.fixture
def ask(call: Any, tmp_path: Path) -> Any:
    """`llava-cot ask`, and the trace that it saves."""

    def run(*arguments: str | Path) -> dict[str, Any]:
        status, out, err = call("ask", "none", "How many?", "--json", "--trace", tmp_path / "t", *arguments)
        assert status == 0, err
        trace: dict[str, Any] = json.loads(out)["trace"]
        return trace

    return run


def resources(*specs: str, **options: str) -> ResourceSpec:
    """The resources of these methods with their judges, read and checked as for `eval`."""
    named = read_resources(ResourceOptions(**options))
    return for_requests(named, [parse_spec(spec).request(resources=named) for spec in specs])


def test_a_reasoner_answers_and_both_are_closed(ask: Any, models: Models) -> None:
    assert ask("--method", "relay", "--reasoner", "other", "--cache-mb", "9")["answer"].startswith("7")
    assert [(one.name, one.closed) for one in models] == [("mini", True), ("other", True)]
    assert models[1].settings["cache_mb"] == "9"


def test_a_model_that_is_named_twice_is_opened_once(ask: Any, models: Models) -> None:
    ask("--method", "relay", "--reasoner", "mini")
    ask("--method", "best-of-n", "--model", "other", "--judge-model", "other")
    assert [(one.name, one.closed) for one in models] == [("mini", True), ("other", True)]


def test_another_model_judges(ask: Any, models: Models) -> None:
    trace = ask("--method", "best-of-n", "--judge-model", "other")
    assert (trace["answer"][0], trace["judge"]) == ("2", "self")
    assert [(one.name, one.judged) for one in models] == [("mini", False), ("other", True)]


def test_a_judge_that_asks_a_reward_model_gets_one(ask: Any, models: Models, openings: Openings) -> None:
    ask("--method", "best-of-n", "--judge", "asking", "--judge-model", "long")
    assert [one.name for one in models] == ["mini"]
    assert [one.closed for one in openings.rewards] == [True]


def test_files_are_read_and_a_budget_arrives(ask: Any, models: Models, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("First.\nSecond.")
    ask("--method", "shower", "--examples", file)
    assert models[0].calls[0].prompt.messages[-1].text == "First.\nSecond.\nHow many?"
    ask("--method", "free", "--examples", file)
    assert ask("--method", "free")["answer"].startswith("2")
    assert [len(model.calls[0].prompt.messages[-1].text.split("\n")) for model in models] == [3, 3, 1]
    for mean, chosen in (("-1000", 0), ("1000", None)):
        file.write_text(f"likelihood {mean}")
        trace = ask("--method", "cutter", "-n", "5", "--calibration", file, "--budget", "77")
        assert (trace["budget"], len(trace["scores"])) == (77, 5)
        best = max(trace["scores"], key=lambda score: score["value"])["candidate"]
        assert trace["chosen"] == [best if chosen is None else chosen]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--reasoner other", "--reasoner is only used by the methods prism, prism-query, relay; drop it"),
        ("--method single --judge-model other", "--judge-model is only used by the judges self, logits"),
        ("--method best-of-n --judge likelihood --judge-model other", "--judge-model is only used by the"),
        ("--examples FILE", "--examples is only used by the methods cot-few-shot, shower, free; drop it"),
        (
            "--method single --judge-prompts PROMPTS",
            "--judge-prompts is only used by the judges self, logits",
        ),
        ("--method relay", "relay needs a second model that reasons; pass one with --reasoner"),
        ("--method shower", "shower needs worked examples; pass one with --examples"),
        ("--method cutter", "cutter needs a calibration, as `llava-cot judge calibrate` writes it; pass one"),
        ("--method best-of-n --judge asking", "asking needs a reward model; pass one with --judge-model"),
        ("--method shower --examples missing", "missing: No such file"),
        ("--method single --budget 9", "single keeps to no budget"),
        (
            "--method relay --reasoner other --budget 9",
            "choose one of majority, best-of-n",
        ),
        ("--method cutter --calibration FILE --budget 0", "the budget is 0 tokens"),
        ("--method cutter --judge self", "needs scores, and self gives none"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_model_is_opened(
    call: Any, models: Models, tmp_path: Path, arguments: str, words: str
) -> None:
    (tmp_path / "file").write_text("likelihood 1")
    (tmp_path / "prompts").write_text("choice: 'Winner:'")
    given = arguments.replace("FILE", str(tmp_path / "file")).replace("PROMPTS", str(tmp_path / "prompts"))
    status, out, err = call("ask", "none", "How many?", *given.split())
    assert (status, out, err.count("\n"), models) == (2, "", 1, [])
    assert err.startswith("llava-cot: ") and words in err


def test_a_calibration_is_of_one_judge(call: Any, models: Models, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("asking 1")
    common = ("ask", "none", "How many?", "--method", "cutter", "--calibration", file)
    other = "--calibration was made for the judge asking, but this run uses likelihood: pass one for lik"
    assert other in call(*common)[2]
    spec = resources("cutter@asking", "free", judge_model="x", calibration=str(file))
    assert spec.calibration is not None
    with pytest.raises(ValueError, match="cutter needs a calibration"):
        resources("cutter@likelihood", "cutter@asking", judge_model="x", calibration=str(file))
    given = Resources(calibration=Calibration("asking", 1.0, 1.0))
    assert given.fitting("cutter", None).calibration is None
    assert given.fitting("cutter", "asking") == given


def test_a_calibration_that_a_method_may_have_is_of_its_judge(
    tmp_path: Path,
) -> None:
    file = tmp_path / "file"
    file.write_text("asking 1")
    choosy = replace(METHODS["cutter"], name="choosy", requires=(), accepts=("calibration",))
    with registered(METHODS, "choosy", choosy):
        assert not resources("choosy@logits")
        with pytest.raises(ValueError, match="made for the judge asking, but this run uses logits: pass"):
            resources("choosy@logits", calibration=str(file))
        spec = resources("choosy@logits", "choosy@asking", calibration=str(file), judge_model="x")
        assert spec.describe("choosy", "logits") == {}


def test_another_model_that_cannot_be_opened(call: Any, models: Models) -> None:
    status, out, err = call("ask", "none", "How many?", "--method", "relay", "--reasoner", "nowhere", "-q")
    assert (status, out, err) == (2, "", "llava-cot: there is no folder nowhere\n")
    assert models[0].closed


def test_a_judge_is_never_given_a_model_of_the_wrong_kind() -> None:
    model, judging = Opened("mini"), Opened("other")
    ask_sync(model, None, "How many?", method="best-of-n", resources=Resources(judge_model=Lengths()))
    assert model.judged
    with pytest.raises(ValueError, match="asking needs a reward model"):
        ask_sync(
            model, None, "q", method="best-of-n", judge="asking", resources=Resources(judge_model=judging)
        )  # fmt: skip
    assert not judging.calls


def test_where_anything_may_be_asked_the_judge_model_is_what_it_proves_to_be(
    models: Models, openings: Openings, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = ResourceOptions(judge_model="other")
    with read_resources(named, device="cpu", dtype="auto").open() as ready:
        assert ready.judge_model is openings.rewards[0]

    def none(spec: str, **settings: Any) -> Lengths:
        raise ModelError("it gives no rewards")

    monkeypatch.setattr("llava_cot.models.registry.open_reward", none)
    with read_resources(named).open() as ready:
        assert ready.judge_model is models[0]
    assert models[0].closed
    with pytest.raises(ModelError, match="no rewards"), resources("best-of-n@asking", judge_model="x").open():
        pass


def test_what_changes_answers_is_told_of_those_it_changes(tmp_path: Path) -> None:
    picture = Example(Question("What?", (PICTURE,)), WHOLE)
    full = ResourceSpec("mini", str(tmp_path), "reward", (picture,), Calibration("likelihood", 0.5, 2.0))
    assert full.describe("single", None) == {}
    assert full.describe("relay", None) == {"--reasoner": "mini"}
    assert full.describe("best-of-n", "self") == {}  # the model judges itself
    assert full.describe("best-of-n", "asking") == {"--judge-model": str(tmp_path.resolve())}
    assert full.describe("cutter", "likelihood") == {
        "--calibration": "of likelihood, mean 0.5, deviation 2.0"
    }
    same, other = full.describe("shower", None), ResourceSpec(examples=(Example(Question("What?"), WHOLE),))
    assert same == full.describe("shower", None) != other.describe("shower", None)
    assert ResourceSpec(judge_model="mini").describe("best-of-n", "self") == {"--judge-model": "mini"}
    assert full and not ResourceSpec()
