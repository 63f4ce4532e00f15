"""The paper's claims: what is run for them, and the words for how they came out."""

from pathlib import Path

import pytest
from made_arms import arm, arms, said, table

from llava_cot.evaluation.report.document import LinePlot
from llava_cot.evaluation.statistics import PairedDifference
from llava_cot.search.methods import METHODS
from llava_cot.search.request import parse_spec
from research.paper import claim_sections, claims
from research.paper.arm_training import trainings
from research.paper.tasks import ORACLES, arm_tasks, search_tasks


def test_every_claim_has_its_tasks_and_its_section() -> None:
    trained = trainings("mini-base", Path("training"), range(2))
    tasks = [*search_tasks("mini", "mini-reward", [0], baselines=True), *arm_tasks("mini-base", trained)]
    assert len({task.name for task in tasks}) == len(tasks)
    methods = {parse_spec(method) for task in tasks for method in task.methods if task.model == "mini"}
    for judge in ("self", "implicit"):
        found = {spec.n for spec in methods if spec.method == "stage-beam" and spec.judge == judge}
        assert found >= {2, 4, 8}
    judged = {spec.judge for spec in methods if spec.method == "stage-beam" and spec.n == 4}
    assert judged >= {"self", "logits", "likelihood", "implicit", "verifier", *ORACLES}
    made = arms(
        *(
            arm(task.model.partition("=")[0], method, [1.0, 0.0] * 3)
            for task in tasks
            for method in task.methods
        )
    )
    titles = [section.title[:2] for section in claim_sections([*made.values()], "mini", {})]
    assert titles == ["1.", "2.", "3.", "4.", "5.", "6."]
    own = [
        arm("mine", method, [1.0, 0.0]) for task in search_tasks("mine", None, [0]) for method in task.methods
    ]
    assert [section.title[:2] for section in claim_sections(own, "mine", {})] == ["2.", "3.", "4."]


def test_only_what_is_judged_by_a_trained_model_gets_it() -> None:
    for task in search_tasks("mini", "mini-reward", [0, 1]):
        judges = {parse_spec(method).judge for method in task.methods}
        assert (task.judge_model == "mini-reward") == ("implicit" in judges) and len(
            judges & {"implicit"}
        ) == (task.judge_model is not None)
    assert not any(task.judge_model for task in search_tasks("some/folder", None, [0]))


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


def test_more_candidates_are_compared_with_one_pass_and_with_greedy() -> None:
    section = claims.scaling(
        arms(
            arm("mini", "single", [1.0, 0.0] * 50),
            arm("mini", "greedy", [1.0] * 100),
            arm("mini", "stage-beam-2", [1.0, 0.0] * 50),
            arm("mini", "stage-beam-8", [1.0] * 100),
            arm("mini", "stage-beam-4@implicit", [1.0] * 100),
        ),
        "mini",
    )
    assert [row[:4] for row in table(section)] == [
        ["single (N = 1)", "50.0", "–", "−50.0"],
        ["stage-beam-2", "50.0", "0.0", "−50.0"],
        ["stage-beam-8", "100.0", "+50.0", "0.0"],
        ["stage-beam-4@implicit", "100.0", "+50.0", "0.0"],
        ["greedy", "100.0", "+50.0", "–"],
    ]
    two, eight, greedy, grown, *implicit = said(section)[:-1]
    assert two.endswith("not distinguishable from zero.") and greedy.endswith(
        "not distinguishable from zero."
    )
    assert eight.endswith("as the paper.") and grown.startswith("stage-beam, from N = 2 to N = 8: +50.0")
    assert len(implicit) == 2 and implicit[0].startswith(
        "stage-beam-4@implicit against one sampled pass: +50"
    )


def test_methods_are_compared_at_equal_n_and_at_equal_tokens() -> None:
    section = claims.methods(
        arms(
            arm("mini", "single", [1.0] * 40),
            arm("mini", "stage-beam-4", [1.0] * 40, tokens=400),
            arm("mini", "greedy", [1.0] * 40),
            arm("mini", "best-of-4", [1.0, 0.0] * 20, tokens=200),
            arm("mini", "best-of-10", [1.0] * 40, tokens=500),
            arm("mini", "majority-4", [1.0] * 40, tokens=100),
            arm("mini", "sentence-beam-4", [1.0] * 40, tokens=410),
            arm("mini", "stage-beam-4@implicit", [1.0] * 40, tokens=300),
            arm("mini", "best-of-4@implicit", [1.0, 0.0] * 20, tokens=300),
            arm("mini", "stage-wise-beam-4@implicit", [1.0] * 40, tokens=1000),
            arm("mini", "swires-4@implicit", [1.0] * 40, tokens=900),
        ),
        "mini",
    )
    assert list(table(section)) == [
        ["stage-beam-4", "best-of-4", "at equal N", "+50.0"],
        ["stage-beam-4", "best-of-10", "at equal tokens", "0.0"],
        ["stage-beam-4", "sentence-beam-4", "at equal N and tokens", "0.0"],
        ["stage-beam-4", "majority-4", "at equal N", "0.0"],
        ["stage-beam-4@implicit", "best-of-4@implicit", "at equal N and tokens", "+50.0"],
        ["stage-beam-4@implicit", "majority-4", "at equal N", "0.0"],
        ["stage-wise-beam-4@implicit", "best-of-4@implicit", "at equal N", "+50.0"],
        ["swires-4@implicit", "stage-wise-beam-4@implicit", "at equal N and tokens", "0.0"],
        ["swires-4@implicit", "best-of-4@implicit", "at equal N", "+50.0"],
    ]
    [plot] = [part for part in section.parts if isinstance(part, LinePlot)]
    assert {line.name: len(line.points) for line in plot.lines} == {
        "stage-beam": 2, "best-of": 3, "sentence-beam": 2, "majority": 2, "stage-beam@implicit": 2,
        "best-of@implicit": 2, "greedy": 1,
    }  # fmt: skip


def test_baselines_are_sorted_by_score_and_compared_with_one_pass_and_stage_beam() -> None:
    found = arms(
        arm("mini", "single", [1.0, 0.0] * 20),
        arm("mini", "stage-beam-4", [1.0] * 40),
        arm("mini", "greedy", [1.0] * 40),
        arm("mini", "cot", [0.0] * 40, tokens=7),
        arm("mini", "swires-4", [1.0] * 30 + [0.0] * 10),
        arm("base", "cot", [1.0] * 40),
    )
    section = claims.baselines(found, "mini")
    assert section is not None
    assert [row[:4] for row in table(section)] == [
        ["stage-beam-4", "100.0", "+50.0", "–"],
        ["swires-4", "75.0", "+25.0", "−25.0"],
        ["single", "50.0", "–", "−50.0"],
        ["cot", "0.0", "−50.0", "−100.0"],
    ]
    assert said(section)[0].startswith("stage-beam-4: 100.0")
    assert claims.baselines(arms(arm("mini", "single", [1.0])), "mini") is None


def test_baselines_are_known_methods_and_none_runs_twice() -> None:
    tasks = search_tasks("mini", None, [0, 1], baselines=True)
    own = search_tasks("some/folder", None, [0, 1], baselines=True)
    assert {task.model for task in own} == {"some/folder"} and not any(task.examples for task in own)
    pairs = [(task.seed, method) for task in tasks for method in task.methods]
    assert len(set(pairs)) == len(pairs) and {seed for seed, _ in pairs} == {0, 1}
    for task in tasks:
        for spec in map(parse_spec, task.methods):
            wanted = (("reasoner",) if task.reasoner else (), ("examples",) if task.examples else ())
            assert METHODS[spec.method].requires in ((), *wanted)
