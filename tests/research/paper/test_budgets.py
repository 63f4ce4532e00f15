"""What an adaptive budget is compared with: fixed candidates at equal tokens, counted by hand."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from made_arms import arm, arms, said, table

from llava_cot.evaluation.report.arms import Arm
from llava_cot.evaluation.report.document import ReportTable
from llava_cot.evaluation.types import Unit
from research.paper import budgets


def unit(key: str, value: float) -> Unit:
    return Unit(key, value, "s", key)


def counted(one: Arm, candidates: int) -> Arm:
    runs = tuple(tuple(replace(found, candidates=candidates) for found in run) for run in one.runs)
    return replace(one, runs=runs)


def test_adaptive_arms_and_their_fixed_counterparts() -> None:
    found = arms(
        *(
            arm("mini", method, [1.0])
            for method in (
                "single",
                "majority-4",
                "stage-beam-8-within-300@logits",
                "adaptive-majority-10",
                "stage-beam-8-within-90@logits",
                "adaptive-best-of-8",
                "adaptive-stage-beam-4",
                "greedy",
                "from-elsewhere",
            )
        ),
        arm("other", "adaptive-majority-4", [1.0]),
        arm("mini", "adaptive-majority-2", [1.0], tokens=0),
    )
    specs = {one.method: budgets.fixed_spec(one) for one in budgets.adaptive_arms(found, "mini")}
    assert {method: spec.name for method, spec in specs.items() if spec} == {
        "adaptive-best-of-8": "best-of-8@logits",
        "adaptive-majority-10": "majority-10",
        "adaptive-stage-beam-4": "stage-beam-4",
        "stage-beam-8-within-90@logits": "stage-beam-8@logits",
        "stage-beam-8-within-300@logits": "stage-beam-8@logits",
    }
    assert list(specs)[-2:] == ["stage-beam-8-within-90@logits", "stage-beam-8-within-300@logits"]


def test_two_numbers_of_candidates_are_mixed_question_by_question() -> None:
    a = [unit("x", 0), unit("x", 1), unit("y", 1), unit("only here", 1)]
    b = [unit("x", 1), unit("y", 0)]
    assert budgets.mixed(a, b, 0.25) == [unit("x", 0.75 * 0.5 + 0.25), unit("y", 0.75)]


@pytest.mark.parametrize(
    ("tokens", "name", "values"),
    [
        (100, "single", [1, 0]),
        (80, "single", [1, 0]),
        (70, None, []),
        (250, "the line between single and majority-4", [0.5, 0.5]),
        (900, "the line between majority-4 and majority-10", [5 / 6 * 0.2, 1 / 6 + 5 / 6 * 0.8]),
        (1400, "majority-10", [1 / 5, 4 / 5]),
        (1600, None, []),
    ],
)
def test_the_level_at_so_many_tokens(tokens: float, name: str | None, values: Sequence[float]) -> None:
    fixed = [
        arm("mini", "majority-10", [1 / 5, 4 / 5], tokens=1000),
        arm("mini", "single", [1, 0], tokens=100),
        arm("mini", "majority-4", [0, 1], tokens=400),
    ]
    level = budgets.level_at(tokens, fixed)
    assert (level and level.name) == name
    if level is not None:
        assert [found.value for found in level.units] == pytest.approx(values)


def test_the_section_has_gains_and_savings() -> None:
    """Adaptive voting is right wherever majority-10 is, for a quarter of its tokens."""
    many = 20
    found = arms(
        arm("mini", "single", [1.0, 0.0] * many, tokens=100),
        arm("mini", "majority-10", [1.0, 1.0] * many, tokens=1000),
        counted(arm("mini", "adaptive-majority-10", [1.0, 1.0] * many, tokens=250), 3),
        arm("mini", "adaptive-stage-beam-4", [1.0, 0.0] * many, tokens=500),
    )
    section = budgets.adaptive(found, "mini")
    first, second = table(section)
    mixture = 100 - (50 + 50 * 150 / 900)
    assert first == ["adaptive-majority-10", "3.00", "250", "100.0", f"+{mixture:.1f}", "0.0"]
    assert second == ["adaptive-stage-beam-4", "–", "500", "50.0", "–", "–"]
    equal, full = said(section)
    assert equal.startswith(
        "adaptive-majority-10 against the line between single and majority-10, at equal tokens: +41.7 points"
    )
    assert equal.endswith(": it helps.")
    assert full.startswith("adaptive-majority-10 against majority-10: 0.0 points (")
    assert full.endswith("for 25.0% of its tokens.")
    [shown] = [part for part in section.parts if isinstance(part, ReportTable)]
    assert "25.0% of its tokens" in shown.rows[0][-1].below


def test_an_interval_with_zero_is_not_called_a_gain() -> None:
    found = arms(
        arm("mini", "single", [1.0, 0.0] * 10, tokens=100),
        arm("mini", "adaptive-majority-4", [0.0, 1.0] * 10, tokens=110),
    )
    [equal] = said(budgets.adaptive(found, "mini"))
    assert equal.startswith("adaptive-majority-4 against single, at equal tokens: 0.0 points")
    assert equal.endswith("not distinguishable from zero.")
    worse = arms(*found.values(), arm("mini", "adaptive-majority-8", [0.0] * 20, tokens=90))
    assert any(told.endswith("it does not help.") for told in said(budgets.adaptive(worse, "mini")))
