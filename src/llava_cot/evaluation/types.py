"""What a benchmark is: questions with references, and the rule by which its authors score an answer.

Owns the words that all of evaluation shares. Knows no benchmark, model or file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from llava_cot.core.images import LoadedImage, load_image
from llava_cot.core.question import Question
from llava_cot.data.record import Picture
from llava_cot.models.base import Prompt

# What settled a score: the words of the conclusion alone, a scorer (a model), nothing, since there was no
# scorer to ask or its replies could not be read ("unsettled", counted as wrong); or there was no conclusion
# ("absent"), or no answer, since the model failed ("failed").
ScoredBy = Literal["match", "scorer", "unsettled", "absent", "failed"]


@dataclass(frozen=True)
class BenchmarkItem:
    """One question of a benchmark. `id` is unique within it and always the same.

    `answer` is the reference as the benchmark has it, an option's letter where there are options. `skill` is
    what the benchmark reports by. `extra` is what its rule needs besides: plain JSON.
    """

    id: str
    text: str
    options: tuple[str, ...] = ()
    answer: str | None = None
    pictures: tuple[Picture, ...] = ()
    skill: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def ask(self) -> Question:
        """The question as any method takes it; reads its pictures. Raises ImageError, DataError, OSError."""
        return self.about(tuple(load_image(picture.read(), name=picture.name) for picture in self.pictures))

    def about(self, images: tuple[LoadedImage, ...]) -> Question:
        """The question as any method takes it, with its pictures as they have been read."""
        return Question(self.text, images, self.id, self.options, self.answer)


@dataclass(frozen=True)
class AnswerScore:
    """What one answer is worth, 0 to 1. `said` is the answer that was found in the conclusion ("B", "14"),
    `reason` the scorer's words."""

    value: float
    by: ScoredBy
    said: str = ""
    reason: str = ""


@dataclass(frozen=True)
class ScoredItem:
    item: BenchmarkItem
    score: AnswerScore


@dataclass(frozen=True)
class Unit:
    """What a metric counts: one question, or a group of them that counts as one.

    Units of one `cluster` are not independent (questions about one figure); intervals draw whole clusters.
    """

    key: str
    value: float
    skill: str
    cluster: str


@dataclass(frozen=True)
class Metric:
    """A figure of a benchmark: the mean of its units, in percent."""

    name: str
    units: tuple[Unit, ...]


class ScoringRule(Protocol):
    """How the answers to a benchmark are scored. Pure: asks no model and reads no file.

    The mean of the metrics named by `headline` is the figure that is reported first.
    """

    @property
    def name(self) -> str: ...

    @property
    def headline(self) -> tuple[str, ...]: ...

    def match(self, item: BenchmarkItem, conclusion: str) -> AnswerScore | None:
        """The score by the words alone; None where they do not settle it and a scorer is to be asked."""

    def prompt(self, item: BenchmarkItem, conclusion: str) -> Prompt:
        """What a scorer is asked where `match` gives None."""

    def read(self, item: BenchmarkItem, conclusion: str, reply: str) -> AnswerScore | None:
        """The score by a scorer's reply (`by` is "scorer"); None where it cannot be read."""

    def metrics(self, scored: Sequence[ScoredItem]) -> list[Metric]:
        """The figures, of one run over all questions."""


@dataclass(frozen=True)
class Benchmark:
    """`items` gives the questions anew at each call, lazily, in the file's order. `note` is a sentence that
    belongs beside its figures, such as which of two editions it is. `page` is where it is described."""

    name: str
    title: str
    page: str
    items: Callable[[], Iterator[BenchmarkItem]]
    rule: ScoringRule
    note: str = ""
