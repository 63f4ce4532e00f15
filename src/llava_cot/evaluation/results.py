"""What has come of runs: every question under every setting, scored; read from their folders.

Owns what reports may ask. Knows how it is kept through `store.py` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from llava_cot.core.trace import Trace, Usage
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, Metric

if TYPE_CHECKING:
    from llava_cot.evaluation.stored import StoredResults


@dataclass(frozen=True, order=True)
class RunKey:
    """What questions were answered by: names of benchmark and model, a method's spec, the sampling's seed."""

    benchmark: str
    model: str
    method: str
    seed: int


@dataclass(frozen=True)
class QuestionResult:
    """One question under one setting.

    `conclusion` is what was scored, None if it was absent. `kept` says whether the format was kept to the
    letter (`stages.validate`), `absent` which stages there were none of, `lengths` how many characters each
    stage has that there is. `oracle` is the best score among the whole answers that were sampled, where a
    method samples such; None also where that is not known. `usage` is empty where the model failed, and
    `failure` then says why. `wall` is what the question took of the run's time, in seconds: time is divided
    among the questions in flight together, so that the sum over all is how long the run took (`usage.seconds`
    is how long this question was in flight). `candidates` is how many were sampled, None where that is not
    known.
    """

    item: str
    skill: str
    score: AnswerScore
    conclusion: str | None
    kept: bool
    absent: tuple[str, ...]
    lengths: Mapping[str, int]
    usage: Usage
    wall: float = 0.0
    oracle: float | None = None
    candidates: int | None = None
    failure: str | None = None


class RunResults(Protocol):
    """Runs in one folder or in several, as one. Results of a setting are in the benchmark's order."""

    @property
    def settings(self) -> Sequence[RunKey]: ...

    def results(self, setting: RunKey) -> Sequence[QuestionResult]: ...

    def metrics(self, setting: RunKey) -> Sequence[Metric]: ...

    def headline(self, benchmark: str) -> tuple[str, ...]:
        """The names of the metrics whose mean is the benchmark's figure."""

    def beside(self, setting: RunKey) -> Mapping[str, str]:
        """What the method had besides the model, by option, as in {"--reasoner": "mini"}."""

    def note(self, benchmark: str) -> str:
        """The sentence that belongs beside its figures; empty if none."""

    def item(self, benchmark: str, id: str) -> BenchmarkItem:
        """The question, without its pictures."""

    def trace(self, setting: RunKey, item: str) -> Trace | None:
        """With its pictures; None where the model failed."""


def listed(beside: Mapping[str, str]) -> str:
    """What a method had besides the model, in words."""
    return ", ".join(f"{option} {value}" for option, value in beside.items()) or "nothing beside the model"


def open_results(folders: Sequence[Path]) -> StoredResults:
    """The runs in these folders, to be closed after use. Raises like `StoredResults`."""
    from llava_cot.evaluation.stored import StoredResults

    return StoredResults(folders)
