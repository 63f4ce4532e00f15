"""Tasks of a reproduction, in this process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from playing import registering

from llava_cot.evaluation.results import RunResults
from llava_cot.models.registry import MINI
from llava_cot.search.calibration import load_calibration
from research.paper.run_tasks import CALIBRATION, ReproductionSettings, answer_questions, calibrate
from research.paper.tasks import BASELINES, ReproductionTask, search_tasks


def test_few_shot_prompting_is_shown_solved_scenes(tmp_path: Path) -> None:
    [task] = [one for one in search_tasks("mini", None, [0], baselines=True) if one.examples]
    counts: list[int] = []
    settings = ReproductionSettings(tmp_path, "scenes:validation", 2, 40)
    assert answer_questions(settings, task, counts.append).failed == 0
    assert counts[-1] == 2 and any(group.methods == task.methods for group in BASELINES)
    with RunResults([tmp_path / task.name]) as results:
        [setting] = results.runs
        assert setting.method == "cot-few-shot" and "--examples" in results.resources(setting)
        for found in results.results(setting):
            trace = results.trace(setting, found.item)
            # A question and two pictures more, with their captions: far beyond the question alone.
            assert trace is not None and trace.usage.prompt_tokens > 100


def test_judges_have_their_model_a_calibration_and_noisy_oracles(tmp_path: Path) -> None:
    settings = ReproductionSettings(tmp_path, "scenes-hard", 2, 150)
    calibrate(settings, "mini", str(MINI), lambda done: None)
    found = load_calibration(tmp_path / CALIBRATION)
    assert (found.judge, found.stage) == ("implicit", "reasoning") and 2 <= found.count <= 10
    (tmp_path / CALIBRATION).rename(tmp_path / "elsewhere")
    replace(found, mean=7.0).save(tmp_path / CALIBRATION)
    calibrate(settings, "mini", str(MINI), lambda done: None)  # is known, and not measured again
    methods = ("best-of-2@implicit", "swires-2@implicit", "best-of-2@noisy-oracle-20")
    task = ReproductionTask("judged", "mini", "conclusion", methods, 0, judge_model=str(MINI))
    with registering():
        assert answer_questions(settings, task, lambda done: None).failed == 0
    with RunResults([tmp_path / "judged"]) as results:
        assert [run.method for run in results.runs] == [*methods]
        implicit, swires, oracle = (results.resources(run) for run in results.runs)
    assert set(implicit) == {"--judge-model"} and not oracle
    assert set(swires) == {"--judge-model", "--calibration"} and "mean 7.0" in swires["--calibration"]
