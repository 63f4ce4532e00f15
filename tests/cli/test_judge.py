"""The verbs of `llava-cot judge` in process, on a scripted model: what is written, said and refused."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from eval_runs import number
from playing import tagged
from teachers import save
from typer.testing import CliRunner, Result

from llava_cot.cli.main import app
from llava_cot.core.stages import LLAVA_COT
from llava_cot.core.trace import Candidate, Score, Trace
from llava_cot.data.rollouts.rollout_file import ROLLOUT_FILE, QuestionRollouts, Rollout, write_rollouts
from llava_cot.models.base import Prompt
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.calibration import load_calibration
from llava_cot.search.judge_prompts import load_judge_prompts

Run = Callable[..., Result]


def script(prompt: Prompt, rng: random.Random) -> str:
    """Reasons at more or less length; about the first question not at all."""
    if "Count." in prompt.messages[0].text:
        return tagged("reasoning", "it is so " * rng.randrange(1, 9))
    done = sum(tag in prompt.prefix for tag in LLAVA_COT.closing_tags)
    stages = [s for s in LLAVA_COT.names[done:] if s != "reasoning" or number(prompt) != "0"]
    return "".join(tagged(stage, "x" * rng.randrange(1, 9)) for stage in stages) + " more"


class Scripted(ScriptedModel):
    def close(self) -> None:
        pass


@pytest.fixture
def calibrate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("llava_cot.models.registry.open_model", lambda *_, **__: Scripted(script))

    def run(*arguments: str | Path, judge: str = "likelihood", out: Path = tmp_path / "c.json") -> Result:
        given = ["judge", "calibrate", "--judge", judge, "--out", str(out), *map(str, arguments)]
        result = CliRunner().invoke(app, given)
        if isinstance(result.exception, ValueError):
            raise result.exception
        return result

    return run


def test_questions_of_ones_own(calibrate: Run, tmp_path: Path) -> None:
    source = save(tmp_path / "in", 9)
    done = calibrate("--from", source, "--limit", "8", "--seed", "4")
    assert done.exit_code == 0, done.output
    found = load_calibration(tmp_path / "c.json")
    assert (found.judge, found.model, found.judge_model) == ("likelihood", "scripted", None)
    assert (found.stage, found.seed) == ("reasoning", 4)
    left = 8 - (found.count or 0)
    assert done.stdout.startswith(f"cut-off {found.cut_off:.4g}: mean {found.mean:.4g}, deviation ")
    assert f" of {found.count} scores, " in done.stdout
    assert done.stderr.endswith(f"wrote {tmp_path / 'c.json'}\n")
    assert (f"{left} had no reasoning" in done.stderr) == (left > 0)
    before = (tmp_path / "c.json").read_bytes()
    calibrate("--from", source, "--limit", "8", "--seed", "4")
    assert (tmp_path / "c.json").read_bytes() == before
    calibrate("--from", source, "--limit", "8", "--seed", "5", "--stage", "caption")
    assert load_calibration(tmp_path / "c.json").stage == "caption"
    assert (tmp_path / "c.json").read_bytes() != before


def test_scenes_of_which_none_is_tested_on_by_itself(calibrate: Run, tmp_path: Path) -> None:
    done = calibrate("--limit", "3")
    assert done.exit_code == 0, done.output
    assert load_calibration(tmp_path / "c.json").count == 3


def test_scores_that_traces_hold(calibrate: Run, tmp_path: Path) -> None:
    files = []
    for k in range(3):
        score = Score(candidate=0, value=float(k), round=2, stage="reasoning", judge="likelihood")
        trace = Trace(
            question={"text": "q"}, model="m", method="swires", judge="likelihood", n=4, seed=0,
            temperature=0.6, top_p=0.9, max_tokens=9, format=(), scores=(score,),
            candidates=(Candidate(id=0, parent=None, round=2, stage="reasoning", text=""),),
        )  # fmt: skip
        files.append(tmp_path / f"{k}.json")
        trace.save(files[-1])
    done = calibrate(*(part for file in files for part in ("--from", file)), out=tmp_path / "c.json")
    assert done.stdout == "cut-off 1.253: mean 1, deviation 1 of 3 scores, 1 of them above it\n"
    found = load_calibration(tmp_path / "c.json")
    assert (found.mean, found.deviation, found.model, found.seed) == (1.0, 1.0, "m", None)
    with pytest.raises(ValueError, match="no scores of the judge likelihood at the stage caption"):
        calibrate("--from", files[0], "--stage", "caption")


def test_scores_that_are_all_alike_are_told(
    calibrate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = Scripted(
        lambda prompt, rng: "".join(tagged(s, "x") for s in LLAVA_COT.names)[len(prompt.prefix) :]
    )
    monkeypatch.setattr("llava_cot.models.registry.open_model", lambda *_, **__: same)
    done = calibrate("--limit", "3")
    assert "no score is above the cut-off: a search with it would never be content" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "judge", "told"),
    [
        ((), "self", "no judge 'self' that gives scores; choose one of .*likelihood"),
        ((), "coin", "no judge 'coin' that gives scores"),
        (("--stage", "thought"), "likelihood", "has no stage 'thought'"),
        (("--judge-model", "mini"), "likelihood", "--judge-model is only used by the judges .*; drop it"),
        (("--from", "nowhere"), "likelihood", "no benchmark 'nowhere'"),
        (("--from", "scenes", "--from", "easy-vqa"), "likelihood", "names 2 sets of questions; give one"),
        (("--from", "scenes", "--from", "t.json"), "likelihood", "give either"),
        (
            ("--judge-prompts", "p.yaml", "--from", "t.json"),
            "likelihood",
            "is for new samples",
        ),
        (("--from", "missing.json"), "likelihood", "cannot read the trace missing.json"),
        (("--temperature", "-1"), "likelihood", "--temperature is -1"),
    ],
)
def test_what_is_refused_and_leaves_nothing(
    calibrate: Run, tmp_path: Path, arguments: tuple[str, ...], judge: str, told: str
) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        calibrate(*arguments, judge=judge)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "c.json").exists()


def test_a_file_that_could_not_be_written_is_refused_before_the_work(calibrate: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        calibrate("--from", "nowhere", out=tmp_path / "no" / "c.json")


def test_the_wording_of_the_judge_is_part_of_its_calibration(calibrate: Run, tmp_path: Path) -> None:
    wording, file = tmp_path / "prompts.yaml", tmp_path / "c.json"
    wording.write_text('verdict: "Mark:"')
    calibrate("--limit", "3", judge="logits")
    assert "prompts" not in file.read_text() and load_calibration(file).prompts is None
    calibrate("--limit", "3", "--judge-prompts", wording, judge="logits")
    assert load_calibration(file).prompts == load_judge_prompts(wording).digest


@pytest.fixture
def rollouts(tmp_path: Path) -> Path:
    """Three questions: one with right and wrong answers, one all right, one without samples."""
    samples = (
        Rollout(tagged("conclusion", "2"), True, times=3),
        Rollout(tagged("conclusion", "three"), False),
    )
    questions = [
        QuestionRollouts("mixed", "How many?", "2", samples),
        QuestionRollouts("easy", "How many more?", "2", samples[:1]),
        QuestionRollouts("none", "How many less?", "2", ()),
    ]
    write_rollouts(tmp_path / ROLLOUT_FILE, questions)
    return tmp_path


def measured(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> Result:
    shortest = Scripted(script, lambda prompt, options: [-(float(len(option)) ** 2) for option in options])
    monkeypatch.setattr("llava_cot.models.registry.open_model", lambda *_, **__: shortest)
    result = CliRunner().invoke(app, ["judge", "measure", *map(str, arguments)])
    if isinstance(result.exception, ValueError):
        raise result.exception
    return result


def test_a_judge_is_measured(rollouts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = measured(monkeypatch, rollouts, "--judge", "likelihood")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[2] == "| summary | 3 | 100.0 | 20.7 to 100.0 | 1.00 |"
    assert lines[6] == "| whole answers | 3 | 100.0 | 20.7 to 100.0 | 1.00 |"
    assert lines[8] == "| choice by | right, % | 95% interval |"
    shares = {line.split(" | ")[0].strip("| "): line.split(" | ")[1] for line in lines[10:]}
    assert shares == {
        "one sample": "87.5", "an even choice among different answers": "75.0",
        "majority of the samples": "100.0", "the judge": "100.0", "the best sample (oracle)": "100.0",
    }  # fmt: skip
    assert "1 of 2 questions have right and wrong answers" in done.stderr
    found = json.loads(measured(monkeypatch, rollouts, "--judge", "likelihood", "--json").stdout)
    assert (found["questions"], found["stages"][0]["ordered"]["value"]) == (2, 100)


def test_a_judge_that_compares_is_measured_too(rollouts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = measured(monkeypatch, rollouts / ROLLOUT_FILE, "--judge", "self", "--limit", "1")
    assert "| summary | 3 | 50.0 | 0.0 to 100.0 |  |" in done.stdout  # its replies choose neither


def test_nothing_to_measure(rollouts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="`llava-cot data rollouts` writes such a file"):
        measured(monkeypatch, rollouts / "no", "--judge", "likelihood")
    with pytest.raises(ValueError, match="no judge 'coin'; choose one of"):
        measured(monkeypatch, rollouts, "--judge", "coin")
    write_rollouts(rollouts / ROLLOUT_FILE, [QuestionRollouts("none", "How many?", "2", ())])
    with pytest.raises(ValueError, match="has no question with samples"):
        measured(monkeypatch, rollouts, "--judge", "likelihood")
