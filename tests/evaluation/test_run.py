"""Runs of methods over benchmarks: what is asked, what is kept, and what becomes of failures."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from eval_runs import Moody, contents, entry, number, numbers, plan, run, unsure, untimed
from teachers import staged

from llava_cot import ask_sync
from llava_cot.data.record import Picture
from llava_cot.data.store import Store
from llava_cot.errors import (
    DataError,
    ModelError,
    ModelFailure,
    ModelRefusal,
    ModelUnavailable,
    StoreError,
)
from llava_cot.evaluation.benchmarks import scenes
from llava_cot.evaluation.eval_folder import LEFT_OUT_FILE
from llava_cot.evaluation.report.arms import arms_of
from llava_cot.evaluation.report.outcome_tables import warnings_table
from llava_cot.evaluation.results import RunResults
from llava_cot.evaluation.run import EvalProgress, evaluate
from llava_cot.evaluation.types import Benchmark, BenchmarkItem, RunKey
from llava_cot.models.base import Prompt, Sampling, seed_of
from llava_cot.models.scripted import ScriptedModel
from llava_cot.scenes.items import make_item
from llava_cot.search.request import parse_spec
from llava_cot.view.summaries import evaluation_end

SPECS = ("single", "greedy", "majority-3", "best-of-3", "stage-beam-2@logits", "sentence-beam-2")


def scores(folder: Path) -> dict[RunKey, list[float]]:
    return {
        setting: [found.score.value for found, _ in rows.values()]
        for setting, rows in contents(folder).items()
    }


@pytest.mark.parametrize("spec", SPECS)
def test_every_trace_is_the_one_that_asking_gives(tmp_path: Path, spec: str) -> None:
    (tmp_path / "pictures").mkdir()
    benchmark, how = numbers(6, tmp_path / "pictures"), parse_spec(spec)
    run(tmp_path / "out", benchmark, Moody(), spec, seeds=(0, 3))
    with RunResults([tmp_path / "out"]) as results:
        for setting in results.runs:
            for item in benchmark.items():
                alone = ask_sync(
                    Moody(), None, item.question(), method=how.method, n=how.n, judge=how.judge,
                    sampling=Sampling(
                        temperature=0.6 if how.temperature is None else how.temperature,
                        seed=seed_of(setting.seed, item.id),
                    ),
                )  # fmt: skip
                assert untimed(results.trace(setting, item.id)) == untimed(alone)


def test_neither_limit_nor_order_nor_company_changes_an_answer(tmp_path: Path) -> None:
    first, second = numbers(12), numbers(12, name="others")
    run(tmp_path / "all", (first, second), entry(Moody(), at_once=5), "single", "majority-3", seeds=(0, 1))
    run(tmp_path / "few", (second, first), entry(Moody(), at_once=1), "majority-3", seeds=(1,), limit=4)
    whole, few = contents(tmp_path / "all"), contents(tmp_path / "few")
    assert len(few) == 2
    for setting, rows in few.items():
        assert len(rows) == 4 and rows.items() <= whole[setting].items()


def test_seeds_are_independent(tmp_path: Path) -> None:
    run(tmp_path, numbers(60), Moody(), seeds=(0, 1, 2))
    found = list(scores(tmp_path).values())
    assert len({tuple(values) for values in found}) == 3
    assert all(25 <= sum(values) <= 55 for values in found)  # of 60 at 2/3: five deviations


def test_a_finished_run_asks_nothing_and_more_is_added(tmp_path: Path) -> None:
    run(tmp_path, numbers(5), Moody())
    before = contents(tmp_path)
    again = Moody()
    run(tmp_path, numbers(5), again)
    assert again.tries == 0 and contents(tmp_path) == before
    run(tmp_path, (numbers(5), numbers(3, name="more")), again, "single", "majority-2", seeds=(0, 1))
    assert again.tries == 4 * 8 - 5
    after = contents(tmp_path)
    assert len(after) == 8 and before.items() <= after.items()


def test_a_failure_is_retried_twice_stored_and_counted_as_wrong(tmp_path: Path) -> None:
    def broken(prompt: Prompt) -> Exception | None:
        return ModelFailure("out of memory") if number(prompt) == "2" else None

    def always(prompt: Prompt, rng: random.Random) -> str:
        return staged(number(prompt))

    model = Moody(always, broken)
    done = run(tmp_path, numbers(4), model)
    assert model.tries == 3 + 3
    assert (done.failed, done.unscored, done.last_error, done.abandoned) == (
        1,
        0,
        "numbers/2: out of memory",
        {},
    )
    setting = RunKey("numbers", "scripted", "single", 0)
    with RunResults([tmp_path]) as results:
        found = results.results(setting)
        assert [one.score.value for one in found] == [1, 1, 0, 1]
        assert (found[2].score.by, found[2].failure, found[2].conclusion) == ("failed", "out of memory", None)
        assert results.trace(setting, "numbers/2") is None
        [metric] = [metric for metric in results.metrics(setting) if metric.name == "accuracy"]
        assert [unit.value for unit in metric.units] == [1, 1, 0, 1]
    model.failing, model.tries = lambda prompt: None, 0
    assert run(tmp_path, numbers(4), model).failed == 0
    assert model.tries == 1
    assert scores(tmp_path) == {setting: [1, 1, 1, 1]}


def test_a_failure_that_a_retry_fixes_does_not_count(tmp_path: Path) -> None:
    hiccups = iter([ModelFailure("busy"), ModelFailure("busy")])
    done = run(tmp_path, numbers(1), Moody(failing=lambda prompt: next(hiccups, None)))
    assert done.failed == 0


def test_a_question_at_fault_is_not_the_model_s_failure(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    bad = [
        BenchmarkItem(f"{i}", "Which number is 1?", (), "1", (Picture("bad", tmp_path / "bad.png"),))
        for i in range(30)
    ]
    good = BenchmarkItem("good", "Which number is 1?", (), "1")
    benchmark = Benchmark("b", "B", "", lambda: iter([*bad, good]), numbers(1).rule)
    model = Moody()
    done = run(tmp_path / "out", benchmark, model)
    assert (done.failed, done.abandoned, model.tries) == (30, {}, 1)
    assert "cannot read the image" in (done.last_error or "")


def test_a_model_that_keeps_failing_is_skipped_and_its_questions_count_as_wrong(tmp_path: Path) -> None:
    gone = entry(Moody(failing=lambda prompt: ModelError("gone")), at_once=1)
    done = run(tmp_path, numbers(50), gone)
    assert (done.failed, done.abandoned) == (20, {"scripted": "numbers/19: gone"})
    with RunResults([tmp_path]) as results:
        found = results.results(results.runs[0])
        assert len(found) == 50 and all(one.score.by == "failed" for one in found)
        assert [one.failure for one in found[19:21]] == ["gone", "it has no answer yet"]


def test_a_server_that_refuses_everything_ends_its_model_at_the_first_reply(tmp_path: Path) -> None:
    def closed(prompt: Prompt) -> Exception | None:
        return None if number(prompt) in "012" else ModelUnavailable("the quota is used up", 429)

    two = replace(
        plan(numbers(50), entry(Moody(failing=closed), at_once=1)),
        models=(entry(Moody(failing=closed), at_once=1), entry(Moody(), "other", "other")),
    )
    done = evaluate(tmp_path, two)
    assert (done.failed, done.abandoned) == (0, {"scripted": "the quota is used up"})
    assert done.left_out == {"missing": {"it has no answer yet": 47}}
    written = json.loads((tmp_path / LEFT_OUT_FILE).read_text())
    assert written == {**done.left_out, "given up": done.abandoned}
    with RunResults([tmp_path]) as results:
        mine, others = (results.results(setting) for setting in results.runs)
        assert [one.failure is None for one in mine] == [True] * 3 + [False] * 47
        assert all(one.failure is None for one in others)
    model = Moody()
    again = evaluate(tmp_path, replace(two, models=(entry(model), two.models[1])))
    assert (model.tries, again.abandoned, again.left_out) == (47, {}, {})
    assert not (tmp_path / LEFT_OUT_FILE).exists()


def test_refusals_do_not_end_a_model_and_are_summed_up(tmp_path: Path) -> None:
    def strict(prompt: Prompt) -> Exception | None:
        return ModelRefusal("it refused to answer: no") if int(number(prompt)) < 30 else None

    model = Moody(failing=strict)
    done = run(tmp_path, numbers(40), entry(model, at_once=1))
    assert (done.failed, done.abandoned, model.tries) == (30, {}, 40)
    assert done.left_out == {"missing": {"it refused to answer: no": 30}}
    lines = list(evaluation_end(tmp_path, done, (), scorer=False))
    assert "missing: 30 answers: it refused to answer: no" in lines


def test_unscored_answers_are_scored_without_the_model(tmp_path: Path) -> None:
    run(tmp_path, numbers(5), Moody())
    before = contents(tmp_path)
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as db:
        db.execute(  # as if killed between the two
            "DELETE FROM entries WHERE kind = 'score' AND key LIKE '%numbers/3%'"
        )
    assert contents(tmp_path) != before
    model = Moody()
    run(tmp_path, numbers(5), model)
    assert model.tries == 0 and contents(tmp_path) == before


def test_an_absent_conclusion_is_not_a_wrong_one(tmp_path: Path) -> None:
    run(tmp_path, numbers(1), ScriptedModel({"Which number is 0?": ["<SUMMARY> 0 </SUMMARY>"]}))
    [[(found, _)]] = [rows.values() for rows in contents(tmp_path).values()]
    assert (found.score.by, found.conclusion, found.valid_format) == ("absent", None, False)
    assert found.absent_stages == ("caption", "reasoning", "conclusion") and found.stage_lengths == {
        "summary": 1
    }


def test_answers_with_warnings_are_counted(tmp_path: Path) -> None:
    def now_and_then(prompt: Prompt, rng: random.Random) -> str:
        return "It is 3." if int(number(prompt)) < 3 else staged("3")

    done = run(tmp_path, numbers(5), ScriptedModel(now_and_then))
    assert done.warned == {"no-stages": 3}
    assert "warned: 3 answers: no stage found" in list(evaluation_end(tmp_path, done, (), scorer=False))
    [rows] = contents(tmp_path).values()
    assert [found.warnings for found, _ in rows.values()] == [("no-stages",)] * 3 + [()] * 2
    with RunResults([tmp_path]) as results:
        table = warnings_table(arms_of(results))
    assert table is not None and table.head == ("method", "answers", "no stage found")
    assert [[cell.text for cell in row] for row in table.rows] == [["single", "5", "3"]]


@pytest.mark.parametrize(
    ("way", "text", "conclusion"),
    [
        ("conclusion", staged("7"), "7"),
        ("conclusion", "7", "7"),
        ("last-line", "First I look.\n\nSo it is:\n\n 7 \n", "7"),
        ("whole", " It is 7.\nSurely. ", "It is 7.\nSurely."),
    ],
)
def test_ways_to_find_the_answer(tmp_path: Path, way: str, text: str, conclusion: str) -> None:
    run(tmp_path, numbers(1), ScriptedModel({"Which number is 0?": [text]}), answer_source=way)
    [[(found, _)]] = [rows.values() for rows in contents(tmp_path).values()]
    assert found.conclusion == conclusion


def test_the_oracle_knows_the_best_of_the_whole_answers(tmp_path: Path) -> None:
    methods = ("single", "majority-3", "stage-beam-2", "adaptive-majority-9")
    run(tmp_path, numbers(40), Moody(), *methods)
    found = contents(tmp_path)
    rows = found[RunKey("numbers", "scripted", "majority-3", 0)].values()
    adaptive = found[RunKey("numbers", "scripted", "adaptive-majority-9", 0)].values()
    assert {one.candidates for one, _ in rows} == {3}
    assert all(one.candidates == len(trace.candidates) == trace.usage.model_calls for one, trace in adaptive)
    assert 4 == min(one.candidates for one, _ in adaptive) < max(one.candidates for one, _ in adaptive) <= 9
    for one, trace in (*rows, *adaptive):
        right = any(f"<CONCLUSION> {one.item.split('/')[1]} <" in c.text for c in trace.candidates)
        assert one.oracle == float(right) >= one.score.value
    assert sum(one.oracle for one, _ in rows) > sum(one.score.value for one, _ in rows)
    for method in ("single", "stage-beam-2"):
        assert all(one.oracle is None for one, _ in found[RunKey("numbers", "scripted", method, 0)].values())


def test_pictures_are_stored_once(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    run(tmp_path / "out", numbers(6, tmp_path / "pictures"), Moody(), "single", "majority-2")
    with Store(tmp_path / "out") as store:
        assert store.counts()["picture"] == 3 and store.counts()["trace"] == 12
        assert all("data" not in kept["question"]["images"][0] for _, kept in store.items("trace"))


def test_progress(tmp_path: Path) -> None:
    told: list[EvalProgress] = []
    run(tmp_path, numbers(5), Moody(lambda prompt, rng: staged("0")), limit=5)
    work = plan(numbers(5), Moody(lambda prompt, rng: staged("0")), "single", "greedy", limit=5)
    evaluate(tmp_path, work, on_progress=told.append)
    assert [(one.done, one.new, one.total) for one in told] == [(6 + i, 1 + i, 10) for i in range(5)]
    assert told[-1].run == RunKey("numbers", "scripted", "greedy", 0) and told[-1].mean == 1 / 5


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"sampling": Sampling(top_k=9)}, "begun with top-k 'not set', and not '9'"),
        ({"limit": 3}, "begun with limit 'none', and not '3'"),
        ({"sampling": Sampling(temperature=0.7)}, "begun with temperature '0.6', and not '0.7'"),
        ({"sampling": Sampling(max_tokens=9)}, "begun with max-tokens"),
        ({"answer_source": "whole"}, "use --answer conclusion"),
    ],
)
def test_a_folder_does_not_mix(tmp_path: Path, others: dict[str, object], words: str) -> None:
    run(tmp_path, numbers(5), Moody())
    with pytest.raises(StoreError, match=words):
        run(tmp_path, numbers(5), Moody(), **others)


def test_a_folder_does_not_mix_questions_rules_or_models(tmp_path: Path) -> None:
    run(tmp_path, numbers(5), Moody())
    with pytest.raises(StoreError, match="other questions"):
        run(tmp_path, numbers(6), Moody())
    with pytest.raises(StoreError, match="scored by the rule exact, and this run uses words"):
        run(tmp_path, numbers(5, rule="words"), Moody())
    with pytest.raises(StoreError, match="is scripted, and this run opens another"):
        run(tmp_path, numbers(5), entry(Moody(), spec="another"))
    with pytest.raises(DataError, match="two benchmarks have the name numbers"):
        run(tmp_path, (numbers(5), numbers(5)), Moody())


def test_a_model_that_cannot_be_opened_leaves_its_name_free(tmp_path: Path) -> None:
    work = plan(numbers(2), entry(Moody(), spec="missing"))
    broken = work.models[0].__class__(
        "scripted", "missing", lambda check: (_ for _ in ()).throw(ModelError("none"))
    )
    with pytest.raises(ModelError):
        evaluate(tmp_path, plan(numbers(2), broken))
    assert run(tmp_path, numbers(2), Moody()).failed == 0


def test_a_judge_may_know_the_truth(tmp_path: Path) -> None:
    truth = {item.ask().text: item.answer for item in (make_item("validation", 0, i) for i in range(4))}
    turns = {text: iter(("nothing", answer, "nothing")) for text, answer in truth.items()}

    def in_turn(prompt: Prompt, rng: random.Random) -> str:
        return staged(next(turns[prompt.messages[0].text.split("\nA. ")[0]]))

    benchmark = scenes(split="validation")
    work = replace(plan(benchmark, Moody(in_turn), limit=4), specs=(parse_spec("best-of-3@verifier"),))
    evaluate(tmp_path, work)
    assert scores(tmp_path) == {RunKey(benchmark.name, "scripted", "best-of-3@verifier", 0): [1.0] * 4}


def test_models_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    models = tuple(entry(Moody(), name, at_once=32) for name in ("one", "two"))
    work = replace(plan(numbers(40, tmp_path / "pictures"), Moody()), models=models)
    assert evaluate(tmp_path / "out", work).failed == 0
    one, two = scores(tmp_path / "out").values()
    assert one == two


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_ended_after_any_write_it_comes_to_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pictures").mkdir()
    benchmark, put = numbers(3, tmp_path / "pictures", rule="words", right="the figure {}"), Store.put
    scorer = Moody(lambda prompt, rng: "Yes" if "amount" in prompt.messages[0].text else "No")

    def vague(prompt: Prompt, rng: random.Random) -> str:
        return staged(rng.choice(("some amount", "a quantity", "a figure")))

    def whole(folder: Path, model: Moody) -> None:
        run(folder, benchmark, entry(model, at_once=2), "single", "majority-2", scorer=scorer)

    writes = 0

    def counted(store: Store, key: str, kind: str, value: object) -> None:
        nonlocal writes
        writes -= 1
        put(store, key, kind, value)
        if writes == 0:
            raise Killed

    monkeypatch.setattr(Store, "put", counted)
    whole(tmp_path / "calm", Moody(vague))
    calm, count = contents(tmp_path / "calm"), -writes
    assert count > 30 and {one.score.by for rows in calm.values() for one, _ in rows.values()} == {"scorer"}
    for last in range(1, count):
        folder, models = tmp_path / str(last), (Moody(vague), Moody(vague))
        writes = last
        with pytest.raises(Killed):
            whole(folder, models[0])
        writes = 0
        kept = len(_traces(folder))
        whole(folder, models[1])
        assert contents(folder) == calm
        assert models[1].tries == 6 - kept


def _traces(folder: Path) -> list[str]:
    with Store(folder) as store:
        return store.keys("trace")


def test_trained_prompted_and_none_are_three_methods_of_one_run(tmp_path: Path) -> None:
    def script(prompt: Prompt, rng: random.Random) -> str:
        begun = prompt.messages[0].text.startswith("Answer the question")
        return "One by one." if begun else unsure(prompt, rng)

    model = ScriptedModel(script, ids=False)
    specs = ("single+trained", "single+prompted", "direct")
    run(tmp_path / "runs", numbers(3), model, *specs)
    with RunResults([tmp_path / "runs"]) as results:
        assert [key.method for key in results.runs] == list(specs)
        ids = [f"numbers/{i}" for i in range(3)]
        traces = [[results.trace(key, one) for one in ids] for key in results.runs]
    staging = [{trace.staging for trace in found if trace} for found in traces]
    assert staging == [{"trained"}, {"prompted"}, {None}]
