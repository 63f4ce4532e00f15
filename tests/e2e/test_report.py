"""`llava-cot report` as a command, on runs of mini."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import refusal, run

from llava_cot.evaluation.results import RunResults


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "runs"
    done = run(
        "eval", "scenes", "--model", "mini", "--method", "single", "--method", "best-of-2@logits",
        "--limit", "6", "--seeds", "2", "--max-tokens", "200", "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return out


def test_runs_become_a_report_in_their_folder(runs: Path) -> None:
    done = run("report", runs, runs)  # a folder named twice counts once
    assert (done.returncode, done.stdout) == (0, b""), done.stderr.decode()
    assert done.stderr.decode() == f"wrote {runs / 'report.html'}\n"
    text = (runs / "report.md").read_text()
    with RunResults([runs]) as results:
        single = [setting for setting in results.runs if setting.method == "single"]
        scores = [result.score.value for setting in single for result in results.results(setting)]
    assert len(scores) == 12
    assert f"| single (mini) | {100 * sum(scores) / 12:.1f} (" in text
    assert (runs / "plots" / "1-scenes-tokens.svg").is_file()
    assert (runs / "store.db").is_file()


def test_a_report_with_another_folder_and_baseline(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "here"
    done = run("report", runs, "--out", out, "--baseline", "best-of-2@logits", "--paper", "--questions", "2")
    assert done.returncode == 0, done.stderr.decode()
    assert "difference from the baseline (mini best-of-2@logits)" in (out / "report.md").read_text()
    assert "Traces and pictures of 2 of 6 questions" in (out / "report.html").read_text()


def test_reports_that_cannot_be_written_are_refused(runs: Path, tmp_path: Path) -> None:
    assert "holds no runs" in refusal("report", tmp_path)
    assert "no 'greedy' to compare with" in refusal("report", runs, "--baseline", "greedy")
    (tmp_path / "file").write_text("")
    assert "cannot make the folder" in refusal("report", runs, "--out", tmp_path / "file")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
