"""Reading runs back from their folders."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from eval_runs import Moody, entry, numbers, run

from llava_cot.data.store import Store
from llava_cot.errors import DataError, StoreError
from llava_cot.evaluation.report.arms import summarize
from llava_cot.evaluation.results import RunResults
from llava_cot.evaluation.types import RunKey
from llava_cot.view.summaries import evaluation_table


def test_a_report_needs_neither_files_nor_model(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    benchmark = numbers(5, tmp_path / "pictures")
    asked = [item.question() for item in benchmark.items()]
    run(tmp_path / "out", benchmark, Moody(), "single", "majority-2", seeds=(0, 1))
    for file in (tmp_path / "pictures").iterdir():
        file.unlink()
    with RunResults([tmp_path / "out"]) as results:
        assert results.runs == [
            RunKey("numbers", "scripted", method, seed)
            for method in ("single", "majority-2")
            for seed in (0, 1)
        ]
        assert results.headline("numbers") == ("accuracy",) and results.note("numbers") == "Made up."
        for item, question in zip(benchmark.items(), asked, strict=True):
            kept = results.item("numbers", item.id)
            assert (kept.text, kept.answer, kept.skill, kept.pictures) == (
                item.text,
                item.answer,
                item.skill,
                (),
            )
            trace = results.trace(results.runs[0], item.id)
            assert trace is not None
            assert trace.question.images[0].data == question.images[0].small
        found = results.results(results.runs[0])
        assert [one.item for one in found] == [item.id for item in benchmark.items()]
        assert all(one.wall > 0 and one.valid_format and one.usage.model_calls == 1 for one in found)


def test_several_folders_are_read_as_one(tmp_path: Path) -> None:
    run(tmp_path / "a", numbers(5), Moody(), "single")
    run(tmp_path / "b", (numbers(5), numbers(2, name="others")), entry(Moody(), "other"), "greedy")
    with RunResults([tmp_path / "a", tmp_path / "b"]) as results:
        assert {(s.benchmark, s.model) for s in results.runs} == {
            ("numbers", "scripted"), ("numbers", "other"), ("others", "other")
        }  # fmt: skip
        lines = summarize(results, results.runs)
    assert [line.questions for line in lines] == [5, 5, 2]
    table = list(evaluation_table(lines, {}))
    assert len(table) == 5 and all(row.count("|") == table[0].count("|") for row in table)
    assert "| numbers | scripted | single | 5 |" in table[2]


def test_folders_that_do_not_fit_together(tmp_path: Path) -> None:
    run(tmp_path / "a", numbers(5), Moody())
    run(tmp_path / "b", numbers(5), Moody())
    run(tmp_path / "c", numbers(5), entry(Moody(), "other"), limit=2)
    with pytest.raises(
        DataError, match="has a run that a folder before it has too: scripted, single on numbers"
    ):
        RunResults([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(DataError, match="has other questions of numbers"):
        RunResults([tmp_path / "a", tmp_path / "c"])
    with RunResults([tmp_path / "a"]):  # was let go
        pass


def test_folders_of_one_name_for_two_things(tmp_path: Path) -> None:
    run(tmp_path / "a", numbers(2), entry(Moody(), "m", "one"))
    run(tmp_path / "b", numbers(2), entry(Moody(), "m", "two"), "greedy")
    with pytest.raises(
        DataError, match=r"the model m in .* is two, and in a folder before it one; report on"
    ):
        RunResults([tmp_path / "a", tmp_path / "b"])


def test_folders_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no runs"):
        RunResults([tmp_path])
    assert not list(tmp_path.iterdir())
    with Store(tmp_path) as store:
        store.match_settings({"purpose": "annotating"})
        with pytest.raises(StoreError, match="another process works on"):
            RunResults([tmp_path])
    with pytest.raises(DataError, match="was not written by"):
        RunResults([tmp_path])


def test_notes_stand_under_the_table(tmp_path: Path) -> None:
    run(tmp_path, numbers(2), Moody())
    with RunResults([tmp_path]) as results:
        lines = summarize(results, results.runs)
    assert list(evaluation_table(lines, {"numbers": "Made up.", "others": ""}))[3:] == ["\nnumbers: Made up."]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("score", {}),
        ("score", None),
        ("score value", "high"),
        ("score value", math.nan),
        ("score value", 10**400),
        ("score usage", {"usd": "much"}),
        ("score lengths", [1]),
        ("benchmark", ["numbers"]),
        ("benchmark ids", ["no such id"]),
        ("benchmark ids", 3),
        ("item", {"text": 1}),
        ("item options", [1]),
        ("model", {"opened": 1}),
        ("failure", 3),
    ],
)
def test_a_store_that_was_tampered_with(tmp_path: Path, kind: str, value: object) -> None:
    run(tmp_path, numbers(2), Moody(), "single")
    kind, _, field = kind.partition(" ")
    with Store(tmp_path) as store:
        found = dict(store.items(kind)) or {json.dumps(["numbers", "scripted", "single", 0, "0"]): None}
        for key, before in found.items():
            store.put(key, kind, {**before, field: value} if field else value)
    with pytest.raises(StoreError, match="is damaged") as told, RunResults([tmp_path]) as results:
        summarize(results, results.runs)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "key", ["x", "[]", '["numbers"]', '["numbers", "scripted", "single", "x"]', "[1, 2, 3, 4]"]
)
def test_a_store_with_keys_of_another_kind(tmp_path: Path, key: str) -> None:
    run(tmp_path, numbers(2), Moody(), "single")
    for kind in ("setting", "score", "failure"):
        with Store(tmp_path) as store:
            [(_, good), *_] = store.items("score")
            store.put(key, kind, {"setting": None, "score": good, "failure": "no"}[kind])
        with pytest.raises(StoreError, match="is damaged"), RunResults([tmp_path]):
            pass
