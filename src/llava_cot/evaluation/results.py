"""The results of runs, read from their folders: each question of each run with its score and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Trace, Usage, WarningKind
from llava_cot.errors import DataError
from llava_cot.evaluation.benchmarks import rule_named
from llava_cot.evaluation.eval_folder import NO_ANSWER_YET, EvalFolder, read_trace_key, trace_key
from llava_cot.evaluation.scorer import extract_answer
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, Metric, RunKey, ScoredItem


@dataclass(frozen=True)
class QuestionResult:
    """The result of one question in one run.

    `wall` is the seconds of the run that the question took: each second is divided among the questions in
    flight, so that the sum over all questions is the time of the run (`usage.seconds` is time in flight).
    """

    item: str  # the question's id
    skill: str
    score: AnswerScore
    conclusion: str | None  # what was scored; None if the answer has none
    valid_format: bool  # as `stages.validate` requires
    absent_stages: tuple[str, ...]
    stage_lengths: Mapping[str, int]  # in characters
    usage: Usage  # zeros where the model failed
    wall: float = 0.0
    oracle: float | None = None  # the best score among the whole answers that the method sampled, if known
    candidates: int | None = None  # None where an old folder does not say
    warnings: tuple[WarningKind, ...] = ()
    failure: str | None = None  # why there is no answer


class RunResults:
    """The runs of one folder or several, as one. A context manager, which holds the folders' locks.

    Scores and questions are in memory, traces are read when they are needed. A question without an answer
    counts as one on which the model failed.

    Raises DataError or StoreError for a folder without runs or in use by another process, and for folders
    that do not fit together: the same run twice, or one name for different questions, models or resources.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._benchmarks: dict[str, dict[str, Any]] = {}
        self._items: dict[str, dict[str, BenchmarkItem]] = {}
        self._results: dict[RunKey, dict[str, QuestionResult]] = {}
        self._folders: dict[RunKey, EvalFolder] = {}
        self._models: dict[str, str] = {}  # what was opened, by the model's name
        self._resources: dict[str, dict[str, str]] = {}  # by method
        self._rule = cache(rule_named)
        with ExitStack() as stack:
            for folder in folders:
                opened = stack.enter_context(EvalFolder.existing(folder))
                with opened.reading():
                    self._read(folder, opened)
            self._open = stack.pop_all()

    @property
    def runs(self) -> Sequence[RunKey]:
        """The runs that have results, in the order in which they were started."""
        return [run for run, found in self._results.items() if found]

    def results(self, run: RunKey) -> Sequence[QuestionResult]:
        """Return the results of all questions, in the benchmark's order."""
        found = self._results[run]
        return [
            found.get(item.id) or _failed(item.id, item.skill, NO_ANSWER_YET)
            for item in self._items[run.benchmark].values()
        ]

    def metrics(self, run: RunKey) -> Sequence[Metric]:
        """Return the metrics of a run, as its benchmark's rule computes them."""
        items = self._items[run.benchmark]
        rule = self._rule(self._benchmarks[run.benchmark]["rule"], run.benchmark)
        return rule.metrics([ScoredItem(items[found.item], found.score) for found in self.results(run)])

    def headline(self, benchmark: str) -> tuple[str, ...]:
        """Return the names of the metrics whose mean is the benchmark's score."""
        return self._rule(self._benchmarks[benchmark]["rule"], benchmark).headline

    def resources(self, run: RunKey) -> Mapping[str, str]:
        """Return what the method had besides the model, by option: {"--reasoner": "mini"}."""
        return self._resources[run.method]

    def note(self, benchmark: str) -> str:
        """Return the sentence to show with the benchmark's scores; may be empty."""
        return str(self._benchmarks[benchmark]["note"])

    def item(self, benchmark: str, id: str) -> BenchmarkItem:
        """Return a question, without its pictures."""
        return self._items[benchmark][id]

    def trace(self, run: RunKey, item: str) -> Trace | None:
        """Return the trace of a question, with its pictures; None where the model failed."""
        return self._folders[run].trace(trace_key(run, item), pictures=True)

    def score_text(self, run: RunKey, item: str, text: str, fmt: StageFormat) -> float | None:
        """Score any answer to a question of a run by its words; None where they do not decide."""
        conclusion = extract_answer(text, fmt, self._folders[run].get(run.model, "model")["answer"])
        if conclusion is None:
            return 0.0
        rule = self._rule(self._benchmarks[run.benchmark]["rule"], run.benchmark)
        found = rule.match(self._items[run.benchmark][item], conclusion)
        return None if found is None else found.value

    def __enter__(self) -> RunResults:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _read(self, path: Path, folder: EvalFolder) -> None:
        for name, found in folder.items("benchmark"):
            if name not in self._benchmarks:
                self._items[name] = {id: folder.item(name, id) for id in found["ids"]}
            known = self._benchmarks.setdefault(name, found)
            if (known["hash"], known["rule"]) != (found["hash"], found["rule"]):
                raise DataError(
                    f"{path} has other questions of {name}, or another rule, than a folder before it; "
                    "report on them separately"
                )
        for run in folder.runs():
            if run in self._folders:
                raise DataError(
                    f"{path} has a run that a folder before it has too: {run.model}, {run.method} on "
                    f"{run.benchmark}, seed {run.seed}; report on them separately"
                )
            self._folders[run], self._results[run] = folder, {}
            self._check_names(path, folder, run)
        for key, why in folder.items("failure"):
            run, id = read_trace_key(key)
            self._results[run][id] = _failed(id, self._items[run.benchmark][id].skill, why)
        for key, row in folder.items("score"):
            run, id = read_trace_key(key)
            self._results[run][id] = _result(id, self._items[run.benchmark][id].skill, row)

    def _check_names(self, path: Path, folder: EvalFolder, run: RunKey) -> None:
        opened = folder.get(run.model, "model")["opened"]
        before = self._models.setdefault(run.model, opened)
        if before != opened:
            raise DataError(
                f"the model {run.model} in {path} is {opened}, and in a folder before it {before}; report on "
                "them separately"
            )
        resources = folder.get(run.method, "method") or {}
        others = self._resources.setdefault(run.method, resources)
        if others != resources:
            raise DataError(
                f"the method {run.method} in {path} had {describe_resources(resources)}, and in a folder "
                f"before it {describe_resources(others)}; report on them separately"
            )


def describe_resources(resources: Mapping[str, str]) -> str:
    """Describe what a method had besides the model: "--reasoner mini, --examples 5f3a"."""
    return ", ".join(f"{option} {value}" for option, value in resources.items()) or "only the model"


def _result(id: str, skill: str, row: Mapping[str, Any]) -> QuestionResult:
    return QuestionResult(
        item=id,
        skill=skill,
        score=AnswerScore(row["value"], row["by"], row["said"], row["reason"]),
        conclusion=row["conclusion"],
        valid_format=row["kept"],
        absent_stages=tuple(row["absent"]),
        stage_lengths=row["lengths"],
        usage=Usage(**row["usage"]),
        wall=row["wall"],
        oracle=_oracle(row),
        candidates=row.get("candidates"),
        warnings=tuple(row.get("warnings", ())),
    )


def _failed(id: str, skill: str, why: str) -> QuestionResult:
    score = AnswerScore(0.0, "failed", reason=why)
    return QuestionResult(id, skill, score, None, False, (), {}, Usage(), failure=why)


def _oracle(row: Mapping[str, Any]) -> float | None:
    if not row["sampled"]:
        return None
    if row["value"] >= 1:
        return 1.0
    return None if row["others"] is None else max(row["value"], row["others"])
