"""The types of evaluation: benchmarks, their questions and scoring rules, scores and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from llava_cot.core.images import LoadedImage, load_image
from llava_cot.core.question import Question
from llava_cot.data.record import Picture
from llava_cot.models.base import Prompt

RIGHT = 0.5  # an answer counts as right from this score on; `report.js` has it, too

# How a score came about: by comparing text ("match"), by a scorer model ("scorer"), not at all because there
# was no scorer or its replies were unreadable ("unsettled"), because the answer has no conclusion ("absent"),
# or because the model failed ("failed"). The last three count as wrong.
ScoredBy = Literal["match", "scorer", "unsettled", "absent", "failed"]


class RunKey(NamedTuple):
    """One run: a benchmark, a model, a method's spec and the sampling seed."""

    benchmark: str
    model: str
    method: str
    seed: int


@dataclass(frozen=True)
class BenchmarkItem:
    """One question of a benchmark.

    `extra` is what the scoring rule needs besides, as plain JSON. `cluster` (the group of questions that are
    not independent, such as those about one picture), `finer` (a sub-category) and `depth` (the number of
    steps that it takes) are read for all rules.
    """

    id: str  # unique within the benchmark, and the same each time it is read
    text: str  # with a hint in front of it where the benchmark has one
    options: tuple[str, ...] = ()  # the texts of the choices; empty for a free answer
    answer: str | None = None  # the reference: a letter where there are options
    pictures: tuple[Picture, ...] = ()  # not read yet
    skill: str = ""  # the category by which the benchmark reports
    extra: Mapping[str, Any] = field(default_factory=dict)

    def question(self, images: tuple[LoadedImage, ...] | None = None) -> Question:
        """Return the question with these images; by default, its pictures are read.

        Raises ImageError, DataError or OSError for a picture that cannot be read.
        """
        if images is None:
            images = tuple(load_image(picture.read(), name=picture.name) for picture in self.pictures)
        return Question(self.text, images, self.id, self.options, self.answer)


@dataclass(frozen=True)
class AnswerScore:
    """The score of one answer."""

    value: float  # from 0 to 1
    by: ScoredBy
    extracted: str = ""  # the answer found in the conclusion, such as "B" or "14"
    reason: str = ""  # the scorer's reply, or why there is no score


@dataclass(frozen=True)
class ScoredItem:
    """A question with the score of its answer."""

    item: BenchmarkItem
    score: AnswerScore


@dataclass(frozen=True)
class Unit:
    """What a metric averages: one question, or a group of questions that counts as one.

    Units of one `cluster` are not independent; the bootstrap draws whole clusters.
    """

    key: str
    value: float
    skill: str
    cluster: str


@dataclass(frozen=True)
class Metric:
    """A metric of a benchmark: the mean of its units, reported in percent."""

    name: str
    units: tuple[Unit, ...]


class ScoringRule(Protocol):
    """How the answers to a benchmark are scored. Pure: it calls no model and reads no file.

    `headline` names the metrics whose mean is the benchmark's main score.
    """

    @property
    def name(self) -> str: ...

    @property
    def headline(self) -> tuple[str, ...]: ...

    def match(self, item: BenchmarkItem, conclusion: str) -> AnswerScore | None:
        """Score by the text alone. Returns None where that does not decide it and a scorer is needed."""

    def prompt(self, item: BenchmarkItem, conclusion: str) -> Prompt:
        """Write the prompt for a scorer model."""

    def read(self, item: BenchmarkItem, conclusion: str, reply: str) -> AnswerScore | None:
        """Score by a scorer's reply (`by` is "scorer"). Returns None where the reply is unreadable."""

    def metrics(self, scored: Sequence[ScoredItem]) -> list[Metric]:
        """Compute the metrics of one run, given all its questions."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: questions and the rule that scores their answers.

    `items` returns the questions, lazily, in the same order at each call.
    """

    name: str  # as in specs, folders and tables
    title: str  # for people
    page: str  # URL of its paper or description
    items: Callable[[], Iterator[BenchmarkItem]]
    rule: ScoringRule
    note: str = ""  # a sentence shown with its scores, such as which of two editions it is
