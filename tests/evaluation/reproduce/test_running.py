"""A piece of a reproduction, in this process."""

from __future__ import annotations

from pathlib import Path

from llava_cot.evaluation.reproduce.running import Common, run_task
from llava_cot.evaluation.reproduce.tasks import NEIGHBOURS, tasks
from llava_cot.evaluation.results import open_results


def test_few_shot_prompting_is_shown_solved_scenes(tmp_path: Path) -> None:
    [task] = [task for task in tasks("mini", [0], neighbours=True) if task.examples]
    counts: list[int] = []
    assert run_task(Common(tmp_path, "scenes:validation", 2, 40), task, counts.append).failed == 0
    assert counts[-1] == 2 and any(piece.methods == task.methods for piece in NEIGHBOURS)
    with open_results([tmp_path / task.name]) as results:
        [setting] = results.settings
        assert setting.method == "cot-few-shot" and "--examples" in results.beside(setting)
        for found in results.results(setting):
            trace = results.trace(setting, found.item)
            # A question and two pictures more, with their captions: far beyond the question alone.
            assert trace is not None and trace.usage.prompt_tokens > 100
