"""The file of a calibration: what is written is read, and all else is refused in a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava_cot.search.calibration import Calibration, Z, cut_off, load_calibration, prompts_of
from llava_cot.search.judge_prompts import JudgePrompts, default_prompts
from llava_cot.search.judges.base import JudgeSetup
from llava_cot.search.judges.logits import LogitsJudge
from llava_cot.search.judges.rules import RulesJudge

finite = st.floats(-1e6, 1e6)


@given(finite, finite.map(abs), st.text(min_size=1), st.none() | st.integers(0, 10**9))
def test_what_is_written_is_read(
    tmp_path_factory: Any, mean: float, deviation: float, judge: str, seed: int | None
) -> None:
    file = tmp_path_factory.mktemp("calibration") / "c.json"
    made = Calibration(judge, mean, deviation, 7, "m", "r", "caption", seed)
    made.save(file)
    assert load_calibration(file) == made
    assert json.loads(file.read_text())["cut_off"] == mean + Z * deviation


def test_three_numbers_are_enough(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text('{"judge": "reward", "mean": 1, "deviation": 2e-05}')
    assert load_calibration(file) == Calibration("reward", 1.0, 2e-05)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is not JSON"),
        ("judge: reward", "is not JSON"),
        ("\xff", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ("{}", "is not a calibration: judge: "),
        ('{"judge": "a", "mean": 1}', "deviation: "),
        ('{"judge": "a", "mean": "high", "deviation": 1}', "mean: "),
        ('{"judge": "a", "mean": 1, "deviation": -1}', "deviation: "),
        ('{"judge": "a", "mean": NaN, "deviation": 1}', "mean: "),
        ('{"judge": "a", "mean": 1, "deviation": 1, "means": 2}', "means"),
        ('{"judge": "a", "mean": 1, "deviation": 1, "cut_off": 5}', "is not mean .* which is 1.2533; change"),
        ('{"judge": "a", "mean": 1, "deviation": 1, "cut_off": "x"}', "is not mean"),
    ],
)
def test_what_is_none(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "c.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=told) as caught:
        load_calibration(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read the calibration .*: No such file"):
        load_calibration(tmp_path / "none.json")


def test_a_calibration_is_for_one_wording_of_the_judge() -> None:
    other = JudgePrompts(**default_prompts().model_dump() | {"verdict": "Mark:"})
    default, custom = LogitsJudge(), LogitsJudge(JudgeSetup(prompts=other))
    assert prompts_of(default) is None and prompts_of(custom) == other.digest
    assert prompts_of(RulesJudge(JudgeSetup(prompts=other))) is None
    made = {judge: Calibration("logits", 0.5, 0.0, prompts=prompts_of(judge)) for judge in (default, custom)}
    for judge in made:
        for measured, calibration in made.items():
            if judge is measured:
                assert cut_off(judge, calibration) == 0.5
            else:
                with pytest.raises(ValueError, match="made for the judge logits with other judge prompts"):
                    cut_off(judge, calibration)
