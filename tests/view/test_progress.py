"""What the line of progress says of a run."""

from llava_cot.evaluation.results import RunKey
from llava_cot.evaluation.run import EvalProgress
from llava_cot.view.line import pace
from llava_cot.view.summaries import told


def test_the_line() -> None:
    setting = RunKey("ai2d", "mini", "single", 0)
    progress = EvalProgress(300, 1500, 200, 3, setting, 0.5771, 1.5)
    assert told(progress, 10.0) == (
        "300 of 1,500 answers · 20 a second · 1 min left · 3 failed · $1.50 · 57.7% by single of mini on ai2d"
    )
    assert told(EvalProgress(0, 10), 0.0) == "0 of 10 answers"


def test_pace() -> None:
    assert pace(0, 5.0, 10) == ("", "")
    assert pace(5, 10.0, 0) == ("30 a minute", "")
    assert pace(5, 10.0, 14_400) == ("30 a minute", "8 h 0 min left")
