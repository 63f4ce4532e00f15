"""A benchmark of another package, by its entry point."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from eval_runs import Moody, numbers, run

from llava_cot.errors import DataError
from llava_cot.evaluation.benchmarks import BENCHMARKS, open_benchmark
from llava_cot.evaluation.results import RunResults
from llava_cot.evaluation.scoring.choice import ChoiceRule
from llava_cot.evaluation.types import Benchmark, BenchmarkItem


class FirstLetter(ChoiceRule):
    """The first letter of the conclusion counts."""

    name = "first-letter"


def letters() -> Benchmark:
    def items() -> Iterator[BenchmarkItem]:
        yield BenchmarkItem("letters/0", "Which letter is 0?", ("one", "two"), "A")

    return Benchmark("anything", "Letters", "", items, FirstLetter())


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a package with this entry point were installed."""
    module: Any = type("Module", (), {"letters": staticmethod(letters)})
    monkeypatch.setitem(__import__("sys").modules, "a_plug_in", module)
    point = EntryPoint("letters", "a_plug_in:letters", "llava_cot.benchmarks")
    monkeypatch.setattr(BENCHMARKS, "_entry_points", {"letters": point})
    monkeypatch.setattr(BENCHMARKS, "_entries", dict(BENCHMARKS._entries))


def test_it_is_opened_run_and_reported_by_its_name(installed: None, tmp_path: Path) -> None:
    assert "letters" in BENCHMARKS
    benchmark = open_benchmark("letters")
    assert (benchmark.name, benchmark.title) == ("letters", "Letters")
    run(tmp_path, benchmark, Moody(lambda prompt, rng: "A"))
    with RunResults([tmp_path]) as results:
        [key] = results.runs
        assert [one.score.value for one in results.results(key)] == [1.0]
        assert results.headline("letters") == ("accuracy",) and results.metrics(key)


def test_without_its_package_the_error_names_the_missing_rule(
    installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, (open_benchmark("letters"), numbers(1)), Moody(lambda prompt, rng: "A"))
    monkeypatch.setattr(BENCHMARKS, "_entry_points", {})
    monkeypatch.delitem(BENCHMARKS._entries, "letters")
    missing = pytest.raises(DataError, match="no scoring rule 'first-letter'")
    with RunResults([tmp_path]) as results, missing:
        results.headline("letters")


def test_its_rule_is_its_own(installed: None) -> None:
    with pytest.raises(DataError, match="has its authors' scoring rule"):
        open_benchmark("letters", rule="exact")
