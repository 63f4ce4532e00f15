"""`llava-cot reproduce` in this process: the whole form, interrupted while models train, and resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playing import registering

from llava_cot.evaluation.results import RunResults
from llava_cot.models.registry import MINI
from research.paper import arm_training, tasks
from research.paper.arm_training import ArmTraining, train_arm, trainings
from research.paper.command import reproduce

INTERRUPTED_AT = 2  # of the trainings
SEARCHES = (
    ("single", "greedy", "stage-beam-2", "stage-beam-4", "majority-2"),
    ("stage-beam-4@verifier", "stage-beam-4@noisy-oracle-50"),
)


def run(out: Path) -> None:
    """Mini stands for the judge that is trained from it."""
    with registering():
        reproduce(
            out, "mini", judge_model=str(MINI), base="mini-base", quick=False,
            benchmark="scenes-hard:validation", limit=2, seeds=1, training_questions=2, training_seeds=2,
            baselines=False, max_tokens=150, processes=1,
        )  # fmt: skip


def test_it_is_interrupted_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small.yaml"
    small.write_text(arm_training.RECIPE.read_text().replace("batch: 8", "batch: 2"))
    monkeypatch.setattr(arm_training, "RECIPE", small)
    monkeypatch.setattr(tasks, "_SEARCHES", SEARCHES)
    monkeypatch.setattr(tasks, "_IMPLICIT", ("stage-beam-2@implicit", "swires-4@implicit"))
    out, begun = tmp_path / "out", list[str]()

    def interrupted(
        training: ArmTraining, on_done: Callable[[int], None], on_interrupt: Callable[[], None]
    ) -> None:
        if len(begun) == INTERRUPTED_AT:
            raise KeyboardInterrupt
        begun.append(training.name)
        train_arm(training, on_done, on_interrupt)

    monkeypatch.setattr(arm_training, "train_arm", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(out)
    assert "the same command resumes it" in capsys.readouterr().err
    trained = trainings("mini-base", out / "training", range(2))
    assert [one.name for one in trained if one.model.exists()] == begun
    models = {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")}
    monkeypatch.setattr(arm_training, "train_arm", train_arm)
    run(out)
    assert {path: path.stat().st_mtime_ns for path in models} == models
    told = capsys.readouterr().out
    assert all(f"\n{number}. " in f"\n{told}" for number in range(1, 5))
    assert all(f"Staged against {name}, all questions: " in told for name in ("direct", "shuffled", "base"))
    report = (out / "report.md").read_text()
    assert all(line.strip() in report for line in told.splitlines()) and (out / "report.html").is_file()
    all_tasks = [*tasks.search_tasks("mini", str(MINI), [0]), *tasks.arm_tasks("mini-base", trained)]
    with RunResults([out / task.name for task in all_tasks]) as results:
        assert len(results.runs) == sum(len(task.methods) for task in all_tasks)
        assert all(len(results.results(run)) == 2 for run in results.runs)
