"""Writing down what happens while a question is answered, as it happens.

Owns the recorder, the only builder of a `Trace`, and the events it sends. Knows no method, of a model
and a judge the name alone, and no way to show an event.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from llava_cot.core.question import LoadedImage, Question
from llava_cot.core.stages import StageFormat, parse
from llava_cot.core.trace import (
    Candidate,
    ImageRecord,
    QuestionRecord,
    Score,
    StageTags,
    Trace,
    Usage,
    Verdict,
)
from llava_cot.models.base import Continuation, Model, Sampling
from llava_cot.search.judges.base import Judge


@dataclass(frozen=True)
class Began:
    """A question is being answered; `record` grows with what happens."""

    record: Recorder


@dataclass(frozen=True)
class StageStarted:
    """A round of the search begins; `stage` is what is searched: a stage's name, "answer" or "sentence"."""

    stage: str
    round: int


@dataclass(frozen=True)
class TextDelta:
    """Text that the only sample has gained. Together the deltas make up the candidate's text."""

    text: str


@dataclass(frozen=True)
class CandidateAdded:
    candidate: Candidate


@dataclass(frozen=True)
class VerdictGiven:
    verdict: Verdict


@dataclass(frozen=True)
class ScoreGiven:
    score: Score


@dataclass(frozen=True)
class Kept:
    """A candidate has become part of the answer."""

    candidate: Candidate


@dataclass(frozen=True)
class Finished:
    trace: Trace


Event = Began | StageStarted | TextDelta | CandidateAdded | VerdictGiven | ScoreGiven | Kept | Finished
OnEvent = Callable[[Event], None]


class Recorder:
    """The record of one question: its rounds, candidates, verdicts and cost, and the path kept so far."""

    def __init__(
        self,
        method: str,
        question: Question,
        model: Model,
        judge: Judge | None,
        n: int,
        sampling: Sampling,
        fmt: StageFormat,
        on_event: OnEvent | None = None,
        budget: int | None = None,
        reasoner: Model | None = None,
    ) -> None:
        self.question = question
        self.fmt = fmt
        self.stage = ""
        self.round = -1
        self.path: list[Candidate] = []
        self._run = (method, model.name, judge.name if judge else None, n, budget)
        self._judge_model = judge.model_name if judge else None
        self._reasoner = reasoner.name if reasoner else None
        self._sampling = sampling
        self._on_event = on_event
        self._written = ""  # by the only sample, since the last candidate was kept
        self._candidates: list[Candidate] = []
        self._verdicts: list[Verdict] = []
        self._scores: list[Score] = []
        self._usage = Usage()
        self._started = time.perf_counter()
        self._send(Began(self))

    @property
    def text(self) -> str:
        """The answer so far: the texts of the kept candidates."""
        return text_of(self.path)

    @property
    def tokens(self) -> tuple[int, ...] | None:
        """The token ids of `text`; None where one kept candidate's are not known."""
        return tokens_of(self.path)

    def start(self, stage: str) -> None:
        """Begin the next round."""
        self.stage = stage
        self.round += 1
        self._send(StageStarted(stage, self.round))

    def delta(self, text: str) -> None:
        self._written += text
        self._send(TextDelta(text))

    def line(self, candidate: Candidate | None) -> list[Candidate]:
        """The candidate with all those that it goes on from, the first one first."""
        found: list[Candidate] = []
        while candidate is not None:
            found.insert(0, candidate)
            candidate = None if candidate.parent is None else self._candidates[candidate.parent]
        return found

    def add(self, continuation: Continuation, parent: Candidate | None = None) -> Candidate:
        """Record one sample of this round, which goes on from what is kept or from `parent`, and its cost."""
        if parent is None and self.path:
            parent = self.path[-1]
        candidate = Candidate(
            id=len(self._candidates),
            parent=None if parent is None else parent.id,
            round=self.round,
            stage=self.stage,
            text=continuation.text,
            tokens=continuation.tokens,
            logprob=continuation.logprob,
            completion_tokens=continuation.completion_tokens,
            finish=continuation.finish,
        )
        self._candidates.append(candidate)
        self.spend(
            Usage(
                prompt_tokens=continuation.prompt_tokens,
                completion_tokens=continuation.completion_tokens,
                model_calls=1,
                usd=continuation.usd,
            )
        )
        self._send(CandidateAdded(candidate))
        return candidate

    def spend(self, usage: Usage) -> None:
        """Count what a judge has cost; candidates are counted by `add`."""
        self._usage += usage

    def verdict(self, verdict: Verdict) -> None:
        self._verdicts.append(verdict)
        self._send(VerdictGiven(verdict))

    def score(self, score: Score) -> None:
        self._scores.append(score)
        self._send(ScoreGiven(score))

    def follow(self, candidate: Candidate) -> None:
        """Keep a candidate of a tree, and before it what leads there from what is kept already."""
        for part in self.line(candidate)[len(self.path) :]:
            self.keep(part)

    def keep(self, candidate: Candidate) -> None:
        """Make a candidate part of the answer."""
        self.path.append(candidate)
        self._written = ""
        self._send(Kept(candidate))

    def finish(self) -> Trace:
        """Close the record."""
        trace = self.so_far()
        self._send(Finished(trace))
        return trace

    def so_far(self) -> Trace:
        """What has happened until now."""
        method, model, judge, n, budget = self._run
        text = self.text + self._written
        answer = parse(text, self.fmt)
        return Trace(
            question=self._asked,
            model=model,
            reasoner=self._reasoner,
            method=method,
            judge=judge,
            judge_model=self._judge_model,
            n=n,
            budget=budget,
            seed=self._sampling.seed,
            temperature=self._sampling.temperature,
            top_p=self._sampling.top_p,
            max_tokens=self._sampling.max_tokens,
            format=tuple(StageTags(name=s.name, open=s.open, close=s.close) for s in self.fmt.stages),
            final=self.fmt.final,
            candidates=tuple(self._candidates),
            verdicts=tuple(self._verdicts),
            scores=tuple(self._scores),
            chosen=tuple(candidate.id for candidate in self.path),
            text=text,
            stages=answer.stages,
            answer=answer.answer,
            usage=self._usage + Usage(seconds=time.perf_counter() - self._started),
        )

    @cached_property
    def _asked(self) -> QuestionRecord:
        return _question_record(self.question)

    def _send(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event)


def text_of(line: Sequence[Candidate]) -> str:
    """The text of candidates, each of which goes on from the one before it."""
    return "".join(candidate.text for candidate in line)


def tokens_of(line: Sequence[Candidate]) -> tuple[int, ...] | None:
    """The token ids of `text_of`; None where one candidate's are not known."""
    if any(candidate.text and not candidate.tokens for candidate in line):
        return None
    return tuple(token for candidate in line for token in candidate.tokens)


def _question_record(question: Question) -> QuestionRecord:
    return QuestionRecord(
        id=question.id,
        text=question.text,
        options=question.options,
        images=tuple(_image_record(image) for image in question.images),
        reference=question.reference,
    )


def _image_record(image: LoadedImage) -> ImageRecord:
    width, height = image.pil.size
    return ImageRecord(name=image.name, sha256=image.sha256, width=width, height=height, data=image.small)
