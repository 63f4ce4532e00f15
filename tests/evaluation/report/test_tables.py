"""What a report counts, against counting by hand on small made-up runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pytest

from llava_cot.core.trace import Trace, Usage
from llava_cot.errors import DataError
from llava_cot.evaluation.report import outcome_tables, score_tables
from llava_cot.evaluation.report.arms import Arm, ArmCost, arm_label, arms_of, baselines, cost_of, families
from llava_cot.evaluation.report.document import Cell, ReportTable
from llava_cot.evaluation.report.judging import ArmJudging
from llava_cot.evaluation.report.score_tables import paper_results, paper_skills
from llava_cot.evaluation.results import QuestionResult
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, Metric, RunKey, Unit


@dataclass
class Given:
    """Results by setting, each a string of 1 (right), 0 (wrong) and x (failed)."""

    given: dict[RunKey, str]

    @property
    def runs(self) -> list[RunKey]:
        return list(self.given)

    def results(self, setting: RunKey) -> Sequence[QuestionResult]:
        return [result(f"q{n}", one, f"skill {n % 2}") for n, one in enumerate(self.given[setting])]

    def metrics(self, setting: RunKey) -> Sequence[Metric]:
        found = self.results(setting)
        units = tuple(Unit(one.item, one.score.value, one.skill, one.item) for one in found)
        return [Metric("accuracy", units), Metric("by the way", units[:1])]

    def headline(self, benchmark: str) -> tuple[str, ...]:
        return ("accuracy",)

    def resources(self, setting: RunKey) -> Mapping[str, str]:
        return {}

    def note(self, benchmark: str) -> str:
        return ""

    def item(self, benchmark: str, id: str) -> BenchmarkItem:
        return BenchmarkItem(id, "?")

    def trace(self, setting: RunKey, item: str) -> Trace | None:
        return None


def result(id: str, one: str, skill: str, oracle: float | None = None) -> QuestionResult:
    if one == "x":
        return QuestionResult(
            id, skill, AnswerScore(0, "failed"), None, False, (), {}, Usage(), failure="broken"
        )
    usage = Usage(prompt_tokens=100, completion_tokens=10 + int(one), model_calls=2, seconds=4, usd=0.5)
    score = AnswerScore(float(one), "match", "B")
    lengths = {"caption": 20, "conclusion": 1} if one == "1" else {"conclusion": 3}
    absent = () if one == "1" else ("caption",)
    return QuestionResult(id, skill, score, "B", one == "1", absent, lengths, usage, 1.5, oracle)


def arms(**runs: str) -> list[Arm]:
    """One benchmark; names are "method" or "model__method", several seeds are divided by a space."""
    found = {}
    for name, given in runs.items():
        model, _, method = name.rpartition("__")
        for seed, run in enumerate(given.split()):
            found[RunKey("b", model or "m", method.replace("_", "-"), seed)] = run
    return arms_of(Given(found))


def row(table: ReportTable | None, method: str) -> dict[str, Cell]:
    assert table is not None
    found = next(line for line in table.rows if line[0].text == method)
    return dict(zip(table.head, found, strict=True))


def test_seeds_are_joined_and_families_know_their_n() -> None:
    first, second, third = arms(single="10 01", stage_beam_4="11", unheard_of="11")
    assert [setting.seed for setting in first.keys] == [0, 1]
    assert first.values == {"q0": 0.5, "q1": 0.5}
    assert (first.family, first.n) == ("single", 1)
    assert (second.family, second.n) == ("stage-beam", 4)
    assert (third.family, third.n) == ("unheard-of", 1)
    judged = arms_of(Given({RunKey("b", "m", "best-of-10@logits", 0): "1"}))[0]
    assert (judged.family, judged.n) == ("best-of@logits", 10)


def test_budgets_of_as_many_candidates_are_a_family() -> None:
    found = arms_of(
        Given(
            {
                RunKey("b", "m", method, 0): "1"
                for method in (
                    "single",
                    "stage-beam-8-within-600@logits",
                    "adaptive-majority-9",
                    "stage-beam-8-within-90@logits",
                    "adaptive-best-of-4",
                )
            }
        )
    )
    assert [(arm.family, arm.n, arm.budget) for arm in found] == [
        ("single", 1, None),
        ("stage-beam-8-within@logits", 8, 600),
        ("adaptive-majority", 9, None),
        ("stage-beam-8-within@logits", 8, 90),
        ("adaptive-best-of", 4, None),
    ]
    lines = {name: [arm.budget for arm in members] for name, members in families(found)}
    assert lines["stage-beam-8-within@logits"] == [None, 90, 600]
    assert set(lines) == {arm.family for arm in found}


def test_runs_without_answers_are_refused() -> None:
    with pytest.raises(DataError, match="no question has been answered"):
        arms_of(Given({}))


def test_lines_go_over_n_and_begin_with_the_single_pass() -> None:
    found = arms(stage_beam_4="1", single="1", stage_beam_2="1", best_of_1="1", best_of_2="1")
    lines = {name: [arm.method for arm in members] for name, members in families(found)}
    assert lines == {
        "stage-beam": ["single", "stage-beam-2", "stage-beam-4"],
        "best-of": ["best-of-1", "best-of-2"],
        "single": ["single"],
    }
    two = arms(a__single="1", b__stage_beam_2="1")
    assert [name for name, _ in families(two)] == ["b · stage-beam", "a · single"]
    assert arm_label(two[0], two) == "a · single"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, {"a stage-beam-2": "a single", "b stage-beam-2": "b single"}),
        ("stage-beam-2", {"a single": "a stage-beam-2", "b single": "b stage-beam-2"}),
        ("a", {"b single": "a single", "b stage-beam-2": "a stage-beam-2"}),
        ("b:single", dict.fromkeys(("a single", "a stage-beam-2", "b stage-beam-2"), "b single")),
    ],
)
def test_a_baseline_is_a_method_a_model_or_both(spec: str | None, expected: dict[str, str]) -> None:
    found = arms(a__single="1", a__stage_beam_2="1", b__single="1", b__stage_beam_2="1")
    against = baselines(found, spec)
    assert {f"{x.model} {x.method}": f"{y.model} {y.method}" for x, y in against.items()} == expected


def test_a_baseline_that_was_not_run_is_refused_with_those_that_were() -> None:
    with pytest.raises(DataError, match=r"no 'greedy' to compare with; .*\(single, stage-beam-2\)"):
        baselines(arms(single="1", stage_beam_2="1"), "greedy")


def test_differences_are_paired_and_adjusted_within_a_benchmark() -> None:
    found = arms(single="0" * 20 + "1" * 20, stage_beam_2="1" * 40, stage_beam_4="1" + "0" * 19 + "1" * 20)
    against = baselines(found, None)
    rows = score_tables.arm_scores(found, against)
    single, two, four = (rows[arm] for arm in found)
    assert (single.mark, two.mark, four.mark) == ("baseline", "better", "")
    assert two.difference is not None and four.difference is not None
    assert (two.difference.value, two.difference.won, two.difference.lost) == (50, 20, 0)
    assert two.p == pytest.approx(2 * two.difference.p)  # the smaller of two
    assert four.p == four.difference.p == 1
    table = score_tables.differences_table(found, rows)
    assert row(table, "stage-beam-2")["difference"].text == "+50.0"
    assert row(table, "stage-beam-2")["better on"] == Cell("50.0%", "20 of 40")
    assert row(table, "single")["difference"].text == "baseline"


def test_the_table_of_scores_has_a_mean_only_where_all_is_known() -> None:
    given = Given(
        {
            RunKey("mmstar", "m", "single", 0): "10",
            RunKey("mmvet", "m", "single", 0): "11",
            RunKey("mmvet", "m", "stage-beam-2", 0): "01",
        }
    )
    found = arms_of(given)
    table = score_tables.scores_table(
        score_tables.arm_scores(found, baselines(found, None)), paper_results(["mmstar", "mmvet"])
    )
    assert table.head == ("method", "mmstar", "mmvet", "mean")
    assert [row(table, "single")[name].text for name in table.head[1:]] == ["50.0", "100.0", "75.0"]
    assert [row(table, "stage-beam-2")[name].text for name in table.head[1:]] == ["–", "50.0", "–"]
    ours = [line for line in table.rows if line[0].mark != "reported"]
    assert len(ours) == 2
    paper = [line for line in table.rows if line[0].mark == "reported"]
    assert [cell.text for cell in paper[4]] == ["stage-beam-2", "58.1", "61.7", "59.9"]
    assert "as reported (arXiv 2411.10440" in paper[4][0].below


def test_the_paper_is_shown_for_its_own_benchmarks_alone() -> None:
    assert paper_results(["scenes", "easy-vqa"]) == []
    masked = {(one.model, one.method): dict(one.scores) for one in paper_results(["ai2d"])}
    assert masked["LLaVA-CoT", "single"] == {"ai2d": 78.7}
    assert ("LLaVA-CoT", "stage-beam-2") not in masked
    assert {len(one.scores) for one in paper_skills("mmstar")} == {6}
    means = {one.model: sum(one.scores.values()) / 6 for one in paper_skills("mmstar")}
    stars = {one.model: one.scores["mmstar"] for one in paper_results(["mmstar"]) if one.method == "single"}
    assert all(abs(means[model] - stars[model]) < 0.06 for model in means)  # the paper agrees with itself


def test_costs_are_means_over_answered_questions() -> None:
    (arm,) = arms(single="10x 11x")
    cost = cost_of(arm)
    assert cost == ArmCost(written=10.75, read=100, calls=2, seconds=1.5, in_flight=4, usd=0.5)
    shown = row(outcome_tables.costs_table([arm]), "single")
    assert (shown["asked"].text, shown["failed"].text, shown["money"].text) == ("6", "2", "$0.5")
    (none,) = arms(single="xx")
    assert cost_of(none) is None
    assert row(outcome_tables.costs_table([none]), "single")["tokens written"].text == "–"


def test_skills_are_sorted_by_how_hard_they_are() -> None:
    found = arms(single="1010 1011", stage_beam_2="1010")
    by_skill = score_tables.skill_scores(found, "accuracy")
    assert [(skill.name, skill.count) for skill in by_skill] == [("skill 1", 2), ("skill 0", 2)]
    assert [score.value for score in by_skill[0].scores if score] == [25, 0]
    assert score_tables.skill_scores(found, "by the way") == []
    table = score_tables.skills_table("accuracy", found, by_skill, [])
    assert [cell.text for cell in table.rows[0]] == ["skill 1", "2", "25.0", "0.0"]
    assert table.rows[0][2].mark == "best"


def test_depths_are_in_their_order() -> None:
    (arm,) = arms(single="1")
    units = [Unit(str(n), float(n < 10), depth, str(n)) for n, depth in enumerate(("10", "2", "0", "2"))]
    arm = replace(arm, metrics=(Metric("accuracy by depth", tuple(units)),))
    by_depth = score_tables.skill_scores([arm], "accuracy by depth")
    assert [(skill.name, skill.count) for skill in by_depth] == [("0", 1), ("2", 2), ("10", 1)]
    table = score_tables.skills_table("accuracy by depth", [arm], by_depth, [])
    assert table.note == "The best of each in bold type." and [row[0].text for row in table.rows] == [
        "0",
        "2",
        "10",
    ]


def test_agreement_pairs_the_seeds_that_both_have() -> None:
    one, two = arms(single="1100 1010", stage_beam_2="1010 0011")
    assert outcome_tables.pair_counts(one, two) == outcome_tables.PairCounts(
        both=2, first=2, second=2, neither=2
    )
    table = outcome_tables.agreement_table({two: one}, [one, two])
    assert [cell.text for cell in table.rows[0]] == ["single", "stage-beam-2", *["25.0%"] * 4, "50.0%"]
    other = arms_of(Given({RunKey("b", "m", "greedy", 7): "1100"}))[0]
    assert outcome_tables.pair_counts(one, other) == outcome_tables.PairCounts(
        2, 0, 0, 2
    )  # no seed shared: in their order
    reach = outcome_tables.reach_table([one, two])
    assert {line[0].text: line[2].text for line in reach.rows} == {
        "by every method": "2",
        "by some": "2",
        "by none": "0",
    }


def test_the_oracle_table_has_the_chosen_answer_voting_and_the_best() -> None:
    best = Arm(
        (RunKey("b", "m", "best-of-4", 0),),
        ([result("q0", "0", "s", 1.0), result("q1", "1", "s", 1.0), result("q2", "0", "s", None)],),
        (),
        (),
    )
    (vote,) = arms(majority_4="110")
    judging = {best: ArmJudging(even={"q0": [0.5, 0.5], "q1": [0.0]})}
    shown = row(outcome_tables.oracle_table([best, vote], judging), "best-of-4")
    figures = ["2", "50.0", "25.0", "100.0", "100.0", "50.0"]
    assert [cell.text for cell in shown.values()] == ["best-of-4", *figures]
    assert row(outcome_tables.oracle_table([best, vote], {}), "best-of-4")["even choice"].text == "–"
    assert outcome_tables.oracle_table([vote], {}) is None


def test_format_lengths_and_how_scores_were_decided() -> None:
    (arm,) = arms(single="110x")
    shown = row(outcome_tables.format_table([arm]), "single")
    assert {name: cell.text for name, cell in shown.items()} == {
        "method": "single",
        "format kept": "66.7%",
        "no caption": "33.3%",
        "no conclusion": "0.0%",
        "caption, characters": "20",
        "conclusion, characters": "2",
    }
    settled = row(outcome_tables.scored_by_table([arm]), "single")
    assert (settled["its words"], settled["no answer"]) == (Cell("75.0%", "3"), Cell("25.0%", "1"))


def test_duels_are_counted_by_how_they_were_decided() -> None:
    one, two = arms(single="11", stage_beam_2="11")
    judging = {one: ArmJudging(), two: ArmJudging()}
    assert outcome_tables.duels_table([one, two], judging) is None
    judging[two] = ArmJudging(Counter(choice=6, seed=2))
    shown = row(outcome_tables.duels_table([one, two], judging), "stage-beam-2")
    assert shown["duels a question"].text == "4.0"
    assert (shown["the judge's choice"].text, shown["the seed"].text) == ("75.0%", "25.0%")
