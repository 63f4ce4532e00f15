"""Scores equal those of VLMEvalKit (ms-vlmeval 0.0.20) on the same predictions.

What VLMEvalKit made of them is in fixtures/eval/vlmevalkit.json; record_vlmeval.py wrote it. Where VLMEvalKit
would ask its judge, or draw an option at random, ours settles nothing.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from llava_cot.errors import DataError
from llava_cot.evaluation.benchmarks import open_benchmark, rule_named
from llava_cot.evaluation.scoring.choice import infer_option
from llava_cot.evaluation.scoring.yes_no import extract_yes_no
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, Metric, ScoredItem

FIXTURES = Path(__file__).parents[2] / "fixtures/eval"
RECORDED: dict[str, Any] = json.loads((FIXTURES / "vlmevalkit.json").read_text(encoding="utf-8"))
# VLMEvalKit's short names for the l2-categories of MMBench.
SHORT = {
    "coarse_perception": "CP",
    "finegrained_perception (instance-level)": "FP-S",
    "logic_reasoning": "LR",
    "attribute_reasoning": "AR",
}


@pytest.mark.parametrize("case", RECORDED["choices"], ids=lambda case: case["options"][0])
def test_every_text_names_the_option_that_it_names_there(case: dict[str, Any]) -> None:
    assert len(case["verdicts"]) > 60
    old = {text: infer_option(text, case["options"], old=True) for text in case["verdicts"]}
    assert old == case["verdicts"]
    for text, letter in old.items():
        if "answer is" not in text.lower():
            assert infer_option(text, case["options"]) == letter


@pytest.mark.parametrize(
    ("text", "letter", "old"),
    [
        (
            "The correct answer is B. Here's why: option A is too small, and option B fits best of them all.",
            "B",
            None,
        ),
        ("The answer is **C**, since A and D are not in the picture at all, as one can see.", "C", None),
        ("the correct answer is\n**(D)** because neither A nor B nor C can be seen in it", "D", None),
        ("Answer is A. So A and not B, which would be too large for what the picture has.", "A", None),
        ("The answer is blue, A or B, as far as one can tell from what is in the picture.", None, None),
        ("The answer is E. Or is it A? Or B? Nobody can tell by what is in the picture.", None, None),
        ("The answer is B", "B", "B"),
        ("Z. The answer is unknown", "Z", "Z"),
    ],
)
def test_a_sentence_that_says_the_answer_counts_as_in_later_versions(
    text: str, letter: str | None, old: str | None
) -> None:
    options = ["one", "two", "three", "four"]
    assert infer_option(text, options) == letter
    assert infer_option(text, options, old=True) == old


@pytest.mark.parametrize(
    ("benchmark", "rule"),
    [("mmstar", "choice-0.0.20"), ("mmbench-circular", "circular-0.0.20"), ("mathvista", "mathvista-0.0.20")],
)
def test_the_older_rule_can_be_chosen(benchmark: str, rule: str) -> None:
    opened = open_benchmark(benchmark, FIXTURES / "LMUData", rule)
    assert opened.rule.name == rule_named(rule, benchmark).name == rule
    assert open_benchmark(benchmark, FIXTURES / "LMUData").rule.name == rule.removesuffix("-0.0.20")
    with pytest.raises(DataError, match=f"--rule is for files of your own .or {rule} for {benchmark}"):
        open_benchmark(benchmark, FIXTURES / "LMUData", "words")


def test_the_recorded_texts_are_of_every_kind() -> None:
    verdicts = [verdict for case in RECORDED["choices"] for verdict in case["verdicts"].values()]
    assert len(verdicts) > 800
    assert min(verdicts.count(verdict) for verdict in (None, "Z", "A", "B", "C", "D", "F")) > 30


def test_every_text_says_the_yes_or_no_that_it_says_there() -> None:
    recorded = RECORDED["yes_no"]
    assert {text: extract_yes_no(text) or "Unknown" for text in recorded} == recorded
    assert len(recorded) > 100 and set(recorded.values()) == {"Yes", "No", "Unknown"}


def test_rotations_are_those_that_vlmevalkit_makes() -> None:
    items = open_benchmark("mmbench-circular", FIXTURES / "unrotated").items()
    made = sorted([index(item), list(item.options), item.answer] for item in items)
    assert made == sorted(RECORDED["circular"]) and len(made) == 15


RUNS = [(name, number) for name, runs in RECORDED["runs"].items() for number in range(len(runs))]


def scored(benchmark: str, run: dict[str, Any]) -> tuple[list[ScoredItem], dict[str, Metric]]:
    """The questions of a benchmark with the scores of a run's predictions, and the figures."""
    opened = open_benchmark(benchmark, FIXTURES / "LMUData")
    found = []
    for item in opened.items():
        said = opened.rule.match(item, run["predictions"][index(item)])
        found.append(ScoredItem(item, said or AnswerScore(0.0, "unsettled")))
    return found, {metric.name: metric for metric in opened.rule.metrics(found)}


def index(item: BenchmarkItem) -> str:
    return item.id.rpartition("/")[2]


def mean(metric: Metric, skill: str | None = None) -> float:
    values = [unit.value for unit in metric.units if skill in (None, unit.skill)]
    return sum(values) / len(values)


def skills(metric: Metric) -> set[str]:
    return {unit.skill for unit in metric.units}


@pytest.mark.parametrize(
    ("benchmark", "table"),
    [("mmstar", "MMStar"), ("ai2d", "AI2D_TEST"), ("ai2d-no-mask", "AI2D_TEST_NO_MASK")],
)
@pytest.mark.parametrize("number", range(3))
def test_multiple_choice(benchmark: str, table: str, number: int) -> None:
    run = RECORDED["runs"][table][number]
    found, metrics = scored(benchmark, run)
    assert {index(one.item): int(one.score.value) for one in found} == run["verdicts"]
    (report,) = run["reports"]["report"]
    assert mean(metrics["accuracy"]) == pytest.approx(report.pop("Overall"))
    report.pop("split")
    assert {skill: mean(metric, skill) for metric in metrics.values() for skill in skills(metric)} == (
        pytest.approx(report)
    )
    assert len(skills(metrics["accuracy"])) == (6 if benchmark == "mmstar" else 3)


@pytest.mark.parametrize("number", range(3))
def test_mmbench_once_and_circular(number: int) -> None:
    run = RECORDED["runs"]["MMBench_DEV_EN_V11"][number]
    once, _, circular = run["reports"]["all"]
    assert circular["Overall"] == run["reports"]["report"][0]["Overall"]
    found, metrics = scored("mmbench", run)
    compare(metrics, "accuracy", once)
    found, metrics = scored("mmbench-circular", run)
    compare(metrics, "circular", circular)
    compare(metrics, "accuracy", once)
    groups: dict[str, list[float]] = {}
    for one in found:
        groups.setdefault(one.item.extra["group"].rpartition("/")[2], []).append(one.score.value)
    assert {key: int(all(values)) for key, values in groups.items()} == run["verdicts"]


def compare(metrics: dict[str, Metric], name: str, report: dict[str, float]) -> None:
    coarse, fine = metrics[name], metrics[f"{name} by finer skill"]
    assert mean(coarse) == mean(fine) == pytest.approx(report["Overall"])
    assert skills(coarse) == set(SHORT)
    assert {SHORT[skill]: mean(coarse, skill) for skill in skills(coarse)} == pytest.approx(
        {short: report[short] for short in SHORT.values()}
    )
    rest = {key: value for key, value in report.items() if key not in ("Overall", "split", *SHORT.values())}
    assert {skill: mean(fine, skill) for skill in skills(fine)} == pytest.approx(rest)


@pytest.mark.parametrize("number", range(3))
def test_hallusion(number: int) -> None:
    run = RECORDED["runs"]["HallusionBench"][number]
    found, metrics = scored("hallusion", run)
    assert {index(one.item): int(one.score.value) for one in found} == run["verdicts"]
    reports = {report["split"]: report for report in run["reports"]["report"]}
    assert set(metrics) == {"aAcc", "fAcc", "qAcc"} and {"illusion", "chart", "ocr"} == skills(
        metrics["fAcc"]
    )
    for name, metric in metrics.items():
        assert 100 * mean(metric) == pytest.approx(reports["Overall"][name])
        for skill in skills(metric):
            assert 100 * mean(metric, skill) == pytest.approx(reports[skill][name])
    assert mean(metrics["fAcc"]) != mean(metrics["qAcc"]) != mean(metrics["aAcc"])
