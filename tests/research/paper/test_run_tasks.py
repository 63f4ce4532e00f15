"""A task of a reproduction, in this process."""

from __future__ import annotations

from pathlib import Path

from llava_cot.evaluation.results import RunResults
from research.paper.run_tasks import ReproductionSettings, run_task
from research.paper.tasks import BASELINES, reproduction_tasks


def test_few_shot_prompting_is_shown_solved_scenes(tmp_path: Path) -> None:
    [task] = [one for one in reproduction_tasks("mini", [0], baselines=True) if one.examples]
    counts: list[int] = []
    assert (
        run_task(ReproductionSettings(tmp_path, "scenes:validation", 2, 40), task, counts.append).failed == 0
    )
    assert counts[-1] == 2 and any(group.methods == task.methods for group in BASELINES)
    with RunResults([tmp_path / task.name]) as results:
        [setting] = results.runs
        assert setting.method == "cot-few-shot" and "--examples" in results.resources(setting)
        for found in results.results(setting):
            trace = results.trace(setting, found.item)
            # A question and two pictures more, with their captions: far beyond the question alone.
            assert trace is not None and trace.usage.prompt_tokens > 100
