"""`llava-cot data rollouts` as a user runs it, on the built-in model."""

from pathlib import Path

import pytest
from command import run

from llava_cot.data.rollouts.rollout_file import read_rollouts


def test_mini_answers_scenes_and_completes_its_stages(tmp_path: Path) -> None:
    scenes, out = tmp_path / "scenes", tmp_path / "out"
    assert run("scenes", scenes, "--count", "3").returncode == 0
    command = ["data", "rollouts", scenes, "--model", "mini", "--out", out]
    command += ["--samples", "3", "--completions", "2", "--temperature", "1"]
    done = run(*command)
    assert done.returncode == 0, done.stderr
    questions = list(read_rollouts(out))
    assert len(questions) == 3 and all(question.pictures(out)[0].read() for question in questions)
    samples = [sample for question in questions for sample in question.samples]
    assert sum(sample.times for sample in samples) == 9
    assert all(sample.values and min(sample.values.values()) >= 0 for sample in samples)
    assert b"tokens a label" in done.stderr and b"prefilled" in done.stderr
    before = (out / "rollouts.jsonl").read_bytes()
    again = run(*command)
    assert again.returncode == 0 and (out / "rollouts.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "no model is named; add --model, or --import"),
        (["--model", "mini", "--import"], "leave out --model"),
        (["--model", "mini", "--images", "x"], "--images is for --import"),
        (["--model", "mini", "--completer", "x"], "needs --completions K"),
        (["--model", "mini", "--completer", "mini", "--completions", "2"], "is the model itself"),
        (["--model", "mini", "--completer", "x", "--completions", "2", "--ray", "local"], "--ray"),
        (["--model", "mini", "--temperature", "-1"], "--temperature is -1.0"),
        (["--model", "mini"], "has no question whose answers can be checked"),
        (["--import"], "line 1: it has neither `steps_with_score`"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(options: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"id": "1", "question": "Describe it."}')
    done = run("data", "rollouts", tmp_path / "q.jsonl", "--out", tmp_path / "out", *options)
    assert done.returncode == 2 and said in done.stderr.decode()
    assert len(done.stderr.decode().strip().splitlines()) == 1
