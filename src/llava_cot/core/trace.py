"""The trace: everything that happened while one question was answered, as plain JSON.

Every field is written when the thing happens; nothing is inferred afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from llava_cot.core.files import read_bounded, write_whole
from llava_cot.core.wording import first_fault

_MOST_BYTES = 2**28  # of a file; a search of a thousand candidates has some ten million

# What is computed with, exactly also as a float.
_Count = Annotated[int, Field(ge=0, le=2**53)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class ImageRecord(_Record):
    """An image of the question; `data` is a data URL of a small copy, so that a trace can be shown alone."""

    name: str
    sha256: str
    width: _Count
    height: _Count
    data: str | None = None


class QuestionRecord(_Record):
    id: str | None = None
    text: str
    options: tuple[str, ...] = ()
    images: tuple[ImageRecord, ...] = ()
    reference: str | None = None


class Candidate(_Record):
    """One sampled continuation. `text` is what it adds to its parent's text, tags included.

    `stage` names the unit that was searched: a stage's name, "answer" or "sentence". `round` counts
    the rounds of the search from 0. `tokens` is empty where the model gives no ids. A stage that ran
    out of tokens (`finish` "length") is recorded with the closing tag added to it, and a text without
    stages with the tags of those that it became: without `tokens`, since they are no longer those of its
        text; `completion_tokens` and `logprob` are of what was sampled.
    """

    id: int
    parent: int | None
    round: int
    stage: str
    text: str
    tokens: tuple[int, ...] = ()
    logprob: float | None = None
    completion_tokens: _Count = 0
    finish: Literal["stop", "eos", "length"] = "stop"


class Check(_Record):
    """A judge's check of one candidate alone, before it is compared (the reasoning stage)."""

    candidate: int
    correct: bool | None
    reply: str


class Verdict(_Record):
    """One duel. `a` was shown as response 1, `b` as response 2; `winner` is one of them.

    `decided_by` says what settled it: the judge's "choice", a failed "check" of the loser, "same"
    text on both sides (no model call), or the "seed", because the reply picks neither. `scores` are the
    judge's, for a and b, where it has any.
    """

    a: int
    b: int
    winner: int
    round: int
    stage: str
    judge: str
    decided_by: Literal["choice", "check", "same", "seed"]
    reply: str = ""
    scores: tuple[float, float] | None = None
    checks: tuple[Check, ...] = ()


class Score(_Record):
    """A judge's score of one candidate by itself: the higher, the better, in units of the judge's own."""

    candidate: int
    value: float
    round: int
    stage: str
    judge: str
    reply: str = ""


class Usage(_Record):
    """The cost, over all candidates and duels, kept or not. A call is one sample or one scoring.

    `usd` is in US dollars, None where nothing has a price.
    """

    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0
    model_calls: _Count = 0
    seconds: float = 0.0
    usd: float | None = None

    def __add__(self, other: Usage) -> Usage:
        priced = [part.usd for part in (self, other) if part.usd is not None]
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            model_calls=self.model_calls + other.model_calls,
            seconds=self.seconds + other.seconds,
            usd=sum(priced) if priced else None,
        )


# What a warning is about: no stage of the format was found, or some are absent; a candidate ran out of
# tokens; the judge chose neither candidate of a duel; no two different candidates were compared; the question
# is about something that the model does not know.
WarningKind = Literal[
    "no-stages", "absent-stages", "cut", "no-choice", "not-compared", "unfamiliar", "whole-answers"
]


class AnswerWarning(_Record):
    """What the reader of an answer should know about how it came about: its kind, and one sentence."""

    kind: WarningKind
    text: str


Staging = Literal["trained", "prompted", "thinking"]


class StageTags(_Record):
    name: str
    open: str
    close: str


class Trace(_Record):
    """The record of one answered question.

    `chosen` is the path of kept candidates, whose texts make up `text`.
    `judge_model` is the model that the judge used; None where it used none, and in older traces.
    `budget` is the most tokens of the question, judging included; None for no such bound.
    `reasoner` is the second model of `prism`, which answered from what `model` had seen.
    `sampling` has the further options of sampling that differ from their defaults, such as top_k, and the
    bounds of the thinking.
    `staging` says whether the model wrote the stages by itself ("trained") or was prompted for each, or
    thinks by itself before it answers ("thinking"); None for
    methods with prompts of their own, and in older traces.
    `final` names the stage that holds the answer; None, as in older traces, stands for the last.
    `warnings` are those of a finished search; older traces have none.
    """

    version: Literal[1] = 1
    question: QuestionRecord
    model: str
    reasoner: str | None = None
    method: str
    judge: str | None
    judge_model: str | None = None
    n: int
    budget: int | None = None
    seed: int
    temperature: float
    top_p: float
    max_tokens: int
    sampling: dict[str, float] = Field(default_factory=dict, exclude_if=lambda options: not options)
    format: tuple[StageTags, ...]
    final: str | None = None
    staging: Staging | None = Field(default=None, exclude_if=lambda way: way is None)
    candidates: tuple[Candidate, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    scores: tuple[Score, ...] = ()
    chosen: tuple[int, ...] = ()
    text: str = ""
    stages: dict[str, str | None] = Field(default_factory=dict)
    answer: str | None = None
    usage: Usage = Usage()
    warnings: tuple[AnswerWarning, ...] = Field(default=(), exclude_if=lambda found: not found)

    @model_validator(mode="after")
    def _check_references(self) -> Trace:
        """Candidates are at their places, after those that they continue, and all that is named is there."""
        for place, candidate in enumerate(self.candidates):
            if candidate.id != place or (candidate.parent is not None and not 0 <= candidate.parent < place):
                raise ValueError(f"candidate {candidate.id} is not at its place, or before its parent")
        named = {*self.chosen, *(score.candidate for score in self.scores)}
        for verdict in self.verdicts:
            if verdict.winner not in (verdict.a, verdict.b):
                raise ValueError(f"verdicts: {verdict.winner} won a duel of {verdict.a} and {verdict.b}")
            named |= {verdict.a, verdict.b, *(check.candidate for check in verdict.checks)}
        if missing := named - set(range(len(self.candidates))):
            raise ValueError(f"there is no candidate {min(missing)}")
        return self

    def save(self, path: str | Path) -> None:
        """Write as JSON, whole or not at all. Raises ValueError or OSError."""
        write_whole(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read a saved trace. Raises ValueError with one sentence if it is not one."""
        try:
            data = read_bounded(path, _MOST_BYTES)
        except OSError as error:
            raise ValueError(f"cannot read the trace {path}: {error.strerror}") from None
        return cls.parse(data, str(path))

    @classmethod
    def parse(cls, data: bytes, name: str) -> Trace:
        """The trace that was saved as these bytes. Raises ValueError with a sentence about `name`."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise ValueError(f"{name} is not a trace: {first_fault(error)}") from None
