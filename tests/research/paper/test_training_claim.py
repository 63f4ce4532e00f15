"""What is said of the ways of training: a trained model is the unit."""

import pytest
from made_arms import arm, arms, said, table

from llava_cot.evaluation.report.document import ReportTable
from research.paper.training_claim import over_trainings, trained_models, training

MANY = 20
SEEING, BOTH, NOTHING = [1.0, 0.0] * MANY, [1.0, 1.0] * MANY, [0.0, 0.0] * MANY


def test_the_interval_is_students_over_the_models() -> None:
    found = over_trainings([50.0, 51.0, 52.0])
    half = 4.302653 / 3**0.5  # t of two degrees of freedom; the deviation is 1
    assert (found.value, found.low, found.high) == pytest.approx((51, 51 - half, 51 + half), abs=1e-5)
    same = over_trainings([7.0, 7.0])
    assert (same.low, same.high) == (7, 7)
    with pytest.raises(ValueError, match="needs two of them"):
        over_trainings([50.0])


def test_more_questions_do_not_make_the_interval_narrower() -> None:
    """Two models that differ by 10 points: the noise is that of training."""
    few = over_trainings([100 * sum(right) / len(right) for right in ([1] * 6 + [0] * 4, [1] * 7 + [0] * 3)])
    many = over_trainings([60.0, 70.0])
    assert (few.low, few.high) == pytest.approx((many.low, many.high))


def test_ways_of_training_are_compared_seed_by_seed_and_by_kind_of_question() -> None:
    """Direct answers miss every reasoning; both see equally well."""
    section = training(
        arms(
            *(arm(f"staged-{seed}", "direct", BOTH) for seed in range(3)),
            *(arm(f"untagged-{seed}", "direct", BOTH) for seed in range(3)),
            *(arm(f"direct-{seed}", "direct", SEEING) for seed in (2, 1, 0)),
            *(arm(f"shuffled-{seed}", "direct", SEEING if seed else NOTHING) for seed in range(3)),
            arm("base", "direct", SEEING),
            arm("base", "single+prompted", NOTHING),
            arm("mini", "single", NOTHING),
        )
    )
    assert table(section) == [
        ["untagged", "0.0", "0.0", "0.0", "0.0", "+1.5"],
        ["direct", "+50.0", "0.0", "+100.0", "+100.0", "+3.4"],
        ["shuffled", "+66.7", "+33.3", "+100.0", "+66.7", "+4.9"],
        ["base", "+50.0", "0.0", "+100.0", "+100.0", "+5.8"],
    ]
    told = said(section)
    assert (
        "Staged against untagged, all questions: 0.0 points (0.0 to 0.0): not distinguishable from zero."
        in told
    )
    assert "Staged against direct, all questions: +50.0 points (+50.0 to +50.0): as the paper." in told
    shuffled = over_trainings([100.0, 50.0, 50.0])
    assert f"Staged against shuffled, all questions: +66.7 points (−{-shuffled.low:.1f} to" in " ".join(told)
    assert "The base prompted for the stages, against the base as it is: −50.0 points" in " ".join(told)
    _, scores = [part for part in section.parts if isinstance(part, ReportTable)]
    assert scores.head == ("questions", "staged", "untagged", "direct", "shuffled", "base", "base, prompted")
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in scores.rows}
    assert [*rows] == ["all questions", "perception", "reasoning", "exist", "numbers", "depth 3"]
    assert rows["depth 3"] == rows["reasoning"] == ["100.0", "100.0", "0.0", "0.0", "0.0", "0.0"]
    assert rows["perception"] == ["100.0", "100.0", "100.0", "66.7", "100.0", "0.0"]


def test_only_trained_models_are_ways_of_training() -> None:
    found = trained_models(
        arms(
            arm("staged-10", "direct", [1.0]),
            arm("staged-9", "direct", [1.0]),
            arm("org/staged-1", "single", [1.0]),
        )
    )
    assert {name: [one.model for one in models] for name, models in found.items()} == {
        "staged": ["staged-9", "staged-10"]
    }
