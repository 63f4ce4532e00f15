"""Judges: each beside the model itself, and what a search gains by how its judge orders answers."""

from made_arms import arm, arms, said, table

from llava_cot.evaluation.judge_accuracy import OrderedPairs
from llava_cot.evaluation.report.document import LinePlot
from llava_cot.evaluation.report.judging import ArmJudging
from research.paper.judge_claim import judges

HALF, ALL = [1.0, 0.0] * 20, [1.0] * 40


def test_judges_are_compared_with_one_pass_and_the_model_itself() -> None:
    found = arms(
        arm("mini", "single", HALF),
        arm("mini", "stage-beam-4", HALF),
        arm("mini", "stage-beam-4@logits", HALF),
        arm("mini", "stage-beam-4@verifier", ALL),
    )
    ordered = [OrderedPairs("q0", "conclusion", 3, 3), OrderedPairs("q1", "conclusion", 0, 1)]
    judging = {found["mini", "stage-beam-4@logits"]: ArmJudging(pairs=ordered)}
    section = judges(found, "mini", judging)
    assert [row[:6] for row in table(section)] == [
        ["stage-beam-4", "self", "50.0", "0.0", "–", "–"],
        ["stage-beam-4", "logits", "50.0", "0.0", "0.0", "75.0"],
        ["stage-beam-4", "verifier", "100.0", "+50.0", "+50.0", "–"],
    ]
    assert "stage-beam-4 with a judge that knows the truth, against one pass: +50.0" in said(section)[2]
    assert not any(isinstance(part, LinePlot) for part in section.parts)  # nothing errs at a set rate


def test_the_even_choice_stands_beside_the_judges_of_whole_answers() -> None:
    found = arms(
        arm("mini", "single", ALL[:4]),
        arm("mini", "best-of-4", ALL[:4]),
        arm("mini", "best-of-4@logits", [0.0] * 4),
    )
    judging = {found["mini", "best-of-4"]: ArmJudging(even={"q0": [0.5], "q1": [1.0]})}
    *_, last = table(judges(found, "mini", judging))
    assert last == ["best-of-4", "none: an even choice", "75.0", "–", "–", "–", "–"]


def test_what_a_search_gains_is_drawn_over_the_pairs_that_its_judge_orders() -> None:
    found = arms(
        arm("mini", "single", HALF),
        arm("mini", "stage-beam-4@verifier", ALL),
        arm("mini", "stage-beam-4@noisy-oracle-20", ALL),
        arm("mini", "stage-beam-4@noisy-oracle-50", HALF),
        arm("mini", "stage-beam-4@implicit", [1.0] * 30 + [0.0] * 10),
        arm("mini", "best-of-4@implicit", HALF),
        arm("mini", "stage-beam-4@logits", HALF),
    )
    whole = ArmJudging(pairs=[OrderedPairs("q0", "answer", 3, 4)])
    section = judges(found, "mini", {found["mini", "best-of-4@implicit"]: whole})
    [plot] = [part for part in section.parts if isinstance(part, LinePlot)]
    drawn = {line.name: [(point.x, point.y.value) for point in line.points] for line in plot.lines}
    assert drawn == {
        "one pass": [(50, 50), (100, 50)],
        "knows the truth, errs at a set rate": [(50, 50), (80, 100), (100, 100)],
        "implicit": [(75, 75)],  # its place is that of best-of-4, its score that of stage-beam-4
    }
    assert said(section)[-2].endswith("stage-beam-4 is better than one pass up to 20% errors.")
