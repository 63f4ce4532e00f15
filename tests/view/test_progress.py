"""The progress display: its text, and where and how often it is shown."""

import io
from typing import Any

import pytest
from rich.console import Console

from llava_cot.data.annotation.annotate import AnnotationProgress
from llava_cot.evaluation.run import EvalProgress
from llava_cot.evaluation.types import RunKey
from llava_cot.view.progress import ProgressDisplay, progress_text, rate_and_time_left
from llava_cot.view.summaries import score_so_far, show_annotation, show_evaluation, show_training

EVALUATION = EvalProgress(300, 1500, 200, 3, RunKey("ai2d", "mini", "single", 0), 0.5771, 1.5)


def test_the_text() -> None:
    text = progress_text(
        300, 1500, 10.0, unit="answers", fresh=200, failed=3, usd=1.5, details=[score_so_far(EVALUATION)]
    )
    assert text == (
        "300 of 1,500 answers · 20 a second · 1 min left · 3 failed · $1.50 · 57.7% by single of mini on ai2d"
    )
    assert progress_text(0, 10, 0.0, unit="answers") == "0 of 10 answers"
    assert progress_text(7, None, 0.0) == "7"


def test_rate_and_time_left() -> None:
    assert rate_and_time_left(0, 5.0, 10) == ("", "")
    assert rate_and_time_left(5, 10.0, 0) == ("30 a minute", "")
    assert rate_and_time_left(5, 10.0, 14_400) == ("30 a minute", "8 h 0 min left")


def display(
    terminal: bool = False, quiet: bool = False, interval: float = 0.0, **settings: Any
) -> tuple[ProgressDisplay, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, width=160, force_terminal=terminal, color_system=None, quiet=quiet)
    return ProgressDisplay(console=console, interval=interval, **settings), out


def test_a_file_gets_a_line_for_each_interval() -> None:
    progress, out = display(unit="answers", total=10)
    with progress:
        progress.update(1, fresh=0)
        progress.update(2, fresh=0, details=["", "1 rejected"])
    assert out.getvalue().splitlines() == ["1 of 10 answers", "2 of 10 answers · 1 rejected"]
    progress, out = display(interval=30.0)
    with progress:
        progress.update(1)
        assert out.getvalue() == ""
        progress.update(2, fresh=0, now=True)
    assert out.getvalue() == "2\n"


def test_steps_have_names_and_rates_of_their_own() -> None:
    progress, out = display()
    with progress:
        progress("reading", 5)
        progress("checking", 0, 10)
    assert out.getvalue().splitlines() == ["reading: 5", "checking: 0 of 10"]


def test_a_terminal_has_a_bar_that_goes_away() -> None:
    progress, out = display(terminal=True)
    with progress:
        progress("reading", 5, 10)
        progress.note("a note")
    assert "reading ━" in out.getvalue() and "5 of 10" in out.getvalue() and "a note" in out.getvalue()
    assert out.getvalue().endswith("\x1b[2K")


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_shows_nothing(terminal: bool) -> None:
    progress, out = display(terminal=terminal, quiet=True)
    with progress:
        progress("reading", 5, 10)
        progress.update(6, now=True)
        progress.note("a note")
    assert out.getvalue() == ""


@pytest.mark.parametrize("command", ["the same command", ""])
def test_an_interrupt_says_that_the_run_can_be_resumed(command: str) -> None:
    progress, out = display(resume_with=command)
    with pytest.raises(KeyboardInterrupt), progress:
        progress.interrupting()
        raise KeyboardInterrupt
    assert "no new questions are sent" in out.getvalue()
    assert ("and the same command resumes it" in out.getvalue()) == bool(command)


def test_each_kind_of_work_says_what_matters_there() -> None:
    progress, out = display()
    show_evaluation(progress)(EVALUATION)
    show_annotation(progress)(AnnotationProgress(10, 0, 2, 40, 3, 0.5))
    training_display, trained = display(unit="steps", interval=1000.0)
    show = show_training(training_display)
    for step, log in ((7, {}), (8, {"loss": 1.5}), (9, {"eval_loss": 1.25, "tokens_per_second": 1234.0})):
        show(step, 100, log)
    evaluation, annotation = out.getvalue().splitlines()
    assert evaluation.endswith(" · 3 failed · $1.50 · 57.7% by single of mini on ai2d")
    assert annotation.endswith("10 of 1,500 · 2 failed · $0.50 · 3 of 40 turns rejected")
    [training] = trained.getvalue().splitlines()
    assert training.startswith("training: 9 of 100 steps · ")
    assert training.endswith(" · evaluation loss 1.2500 · 1,234 tokens/s")
