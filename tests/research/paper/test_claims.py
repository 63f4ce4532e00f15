"""The paper's claims: what is run for them, and the words for how they came out."""

import pytest
from command import ROOT
from made_arms import arm, arms, said, table

from llava_cot.evaluation.judge_accuracy import OrderedPairs
from llava_cot.evaluation.report.judging import ArmJudging
from llava_cot.evaluation.statistics import MeanEstimate, PairedDifference
from llava_cot.search.methods import METHODS
from llava_cot.search.request import parse_spec
from research.paper import claims
from research.paper.tasks import TRAINED, reproduction_tasks

ABLATIONS = ROOT / "research/mini/weights"


def test_every_claim_has_its_tasks() -> None:
    tasks = reproduction_tasks("mini", range(3), ablations=ABLATIONS)
    assert len({task.name for task in tasks}) == len(tasks)
    for seed in range(3):
        of_mini = [m for task in tasks if task.seed == seed and task.model == "mini" for m in task.methods]
        assert len(set(of_mini)) == len(of_mini)
        specs = [parse_spec(method) for method in of_mini]
        assert {spec.n for spec in specs if spec.method == "stage-beam"} == {2, 3, 4, 8}
        assert {spec.n for spec in specs if spec.method == "best-of-n"} >= {4, 10}
        assert {spec.method for spec in specs} >= {"single", "majority", "sentence-beam"}
        judged = {spec.judge for spec in specs if spec.method == "stage-beam"}
        assert judged >= {"self", "logits", "verifier"}
        models = {task.model.partition("=")[0] for task in tasks if task.seed == seed}
        assert models == set(TRAINED)
    assert {task.model for task in reproduction_tasks("some/folder", [0])} == {"some/folder"}


def test_training_is_compared_by_kind_of_question() -> None:
    """Direct answers miss every reasoning; both see equally well."""
    many = 40
    section = claims.training(
        arms(
            arm("mini", "single", [1.0] * many),
            arm("mini-direct", "single", [1.0, 0.0] * (many // 2)),
            arm("mini-untagged", "single", [1.0] * many),
        )
    )
    both, seeing, reasoning, more, *untagged = said(section)[:-1]
    assert both.startswith("Staged against direct, all questions: +50.0 points")
    assert both.endswith("as the paper.")
    assert seeing.startswith("Staged against direct, perception: 0.0 points")
    assert reasoning.startswith("Staged against direct, reasoning: +100.0 points")
    assert more.startswith("Staged against direct, what reasoning gains beyond perception: +100.0 points")
    assert more.endswith("as the paper.")
    assert len(untagged) == 4 and untagged[-1].endswith("not distinguishable from zero.")
    assert table(section) == [
        ["all", "100.0", "100.0", "50.0"],
        ["perception", "100.0", "100.0", "100.0"],
        ["reasoning", "100.0", "100.0", "0.0"],
        ["exist", "100.0", "100.0", "100.0"],
        ["chain", "100.0", "100.0", "0.0"],
    ]


@pytest.mark.parametrize(
    ("value", "low", "high", "end"),
    [
        (5.0, 2.0, 8.0, "as the paper"),
        (-5.0, -8.0, -2.0, "unlike the paper"),
        (1.0, -1.0, 3.0, "not distinguishable from zero"),
        (1.0, 0.0, 3.0, "not distinguishable from zero"),
    ],
)
def test_an_outcome_depends_on_the_interval(value: float, low: float, high: float, end: str) -> None:
    found = PairedDifference(value, low, high, 0.5, "McNemar", 1, 1, 10)
    assert claims.outcome(found).endswith(end)


def test_more_candidates_are_compared_with_one_pass() -> None:
    section = claims.scaling(
        arms(
            arm("mini", "single", [1.0, 0.0] * 50),
            arm("mini", "greedy", [1.0] * 100),
            arm("mini", "stage-beam-2", [1.0, 0.0] * 50),
            arm("mini", "stage-beam-8", [1.0] * 100),
        ),
        "mini",
    )
    assert [row[:3] for row in table(section)] == [
        ["single (N = 1)", "50.0", "baseline"],
        ["stage-beam-2", "50.0", "0.0"],
        ["stage-beam-8", "100.0", "+50.0"],
        ["greedy", "100.0", "+50.0"],
    ]
    two, eight, greedy, grown = said(section)[:-1]
    assert two.endswith("not distinguishable from zero.") and greedy.endswith(
        "not distinguishable from zero."
    )
    assert eight.endswith("as the paper.") and grown.startswith("From N = 2 to N = 8: +50.0")


def test_methods_are_compared_at_equal_n_and_at_equal_tokens() -> None:
    section = claims.methods(
        arms(
            arm("mini", "single", [1.0] * 40),
            arm("mini", "stage-beam-4", [1.0] * 40, tokens=400),
            arm("mini", "best-of-4", [1.0, 0.0] * 20, tokens=200),
            arm("mini", "best-of-10", [1.0] * 40, tokens=500),
            arm("mini", "majority-4", [1.0] * 40, tokens=100),
            arm("mini", "sentence-beam-4", [1.0] * 40, tokens=410),
        ),
        "mini",
    )
    assert list(table(section)) == [
        ["stage-beam-4", "best-of-4", "at equal N", "+50.0"],
        ["stage-beam-4", "best-of-10", "at equal tokens", "0.0"],
        ["stage-beam-4", "sentence-beam-4", "at equal N and tokens", "0.0"],
        ["stage-beam-4", "majority-4", "at equal N", "0.0"],
    ]


def test_judges_are_compared_with_the_model_itself() -> None:
    found = arms(
        arm("mini", "stage-beam-4", [1.0, 0.0] * 20),
        arm("mini", "stage-beam-4@logits", [1.0, 0.0] * 20),
        arm("mini", "stage-beam-4@verifier", [1.0] * 40),
        arm("mini", "best-of-4", [1.0] * 40),  # with no other judge
    )
    ordered = [OrderedPairs("q0", "conclusion", 3, 3), OrderedPairs("q1", "conclusion", 0, 1)]
    judging = {found["mini", "stage-beam-4@logits"]: ArmJudging(pairs=ordered)}
    section = claims.judges(found, "mini", judging)
    assert [row[:5] for row in table(section)] == [
        ["stage-beam-4", "self", "50.0", "baseline", "–"],
        ["stage-beam-4", "logits", "50.0", "0.0", "75.0"],
        ["stage-beam-4", "verifier", "100.0", "+50.0", "–"],
    ]
    assert (
        "The ceiling, a judge that knows the truth, against the self-judge in stage-beam-4: +50.0"
        in said(section)[1]
    )


def test_the_even_choice_stands_beside_the_judges_of_whole_answers() -> None:
    found = arms(arm("mini", "best-of-4", [1.0] * 4), arm("mini", "best-of-4@logits", [0.0] * 4))
    judging = {found["mini", "best-of-4"]: ArmJudging(even={"q0": [0.5], "q1": [1.0]})}
    *_, last = table(claims.judges(found, "mini", judging))
    assert last == ["best-of-4", "none: an even choice", "75.0", "–", "–", "–"]


def test_baselines_are_sorted_by_score_and_compared_with_one_pass_and_stage_beam() -> None:
    found = arms(
        arm("mini", "single", [1.0, 0.0] * 20),
        arm("mini", "stage-beam-4", [1.0] * 40),
        arm("mini", "greedy", [1.0] * 40),
        arm("mini", "cot", [0.0] * 40, tokens=7),
        arm("mini", "swires-4", [1.0] * 30 + [0.0] * 10),
        arm("mini-untagged", "msg", [1.0] * 10 + [0.0] * 30),
    )
    section = claims.baselines(found)
    assert section is not None
    assert [row[:5] for row in table(section)] == [
        ["stage-beam-4", "mini", "100.0", "+50.0", "–"],
        ["swires-4", "mini", "75.0", "+25.0", "−25.0"],
        ["single", "mini", "50.0", "–", "−50.0"],
        ["msg", "mini-untagged", "25.0", "–", "–"],
        ["cot", "mini", "0.0", "−50.0", "−100.0"],
    ]
    assert said(section)[0].startswith("stage-beam-4 of mini: 100.0")
    assert claims.baselines(arms(arm("mini", "single", [1.0]))) is None


def test_baselines_are_known_methods_and_none_runs_twice() -> None:
    more = reproduction_tasks("mini", [0, 1], True, ABLATIONS)[
        len(reproduction_tasks("mini", [0, 1], ablations=ABLATIONS)) :
    ]
    own = reproduction_tasks("some/folder", [0, 1], baselines=True)
    assert {task.model for task in own} == {"some/folder"} and not any(task.examples for task in own)
    more = [task for task in more if task.model == "mini"]
    asked = [(task.seed, method) for task in more for method in task.methods]
    assert len(set(asked)) == len(asked) and {seed for seed, _ in asked} == {0, 1}
    for task in more:
        for spec in map(parse_spec, task.methods):
            wanted = (("reasoner",) if task.reasoner else (), ("examples",) if task.examples else ())
            assert METHODS[spec.method].requires in ((), *wanted)


def test_an_excess_has_the_spread_of_both_differences() -> None:
    a = PairedDifference(10.0, 7.0, 13.0, 0.0, "McNemar", 9, 1, 50)
    b = PairedDifference(2.0, -2.0, 6.0, 0.5, "McNemar", 5, 4, 50)
    assert claims.excess(a, b) == MeanEstimate(8.0, 3.0, 13.0)
