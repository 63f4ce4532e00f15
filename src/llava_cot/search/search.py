"""One question being answered: what a method is given, and the record of what it does."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from llava_cot.core.question import LoadedImage, Question, question_text
from llava_cot.core.stages import StageFormat, close_cut_stage, parse
from llava_cot.core.trace import (
    Candidate,
    ImageRecord,
    QuestionRecord,
    Score,
    StageTags,
    Staging,
    Trace,
    Usage,
    Verdict,
)
from llava_cot.errors import ModelError
from llava_cot.models.base import SAMPLING_OPTIONS, Continuation, Model, OnText, Prompt, Sampling
from llava_cot.search import budget
from llava_cot.search.answer_warnings import find_warnings
from llava_cot.search.judges.base import Judge, JudgeScore
from llava_cot.search.request import Request
from llava_cot.search.resources import Resources
from llava_cot.search.stage_prompting import find_staging, prompted
from llava_cot.search.thinking import think
from llava_cot.search.tournament import tournament


@dataclass(frozen=True)
class Began:
    """The search begins; `search` grows with what happens."""

    search: Search


@dataclass(frozen=True)
class StageStarted:
    """A round begins; `stage` is what is searched: a stage's name, "answer" or "sentence"."""

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
class CandidateChosen:
    """A candidate has become part of the answer."""

    candidate: Candidate


@dataclass(frozen=True)
class Finished:
    trace: Trace


Event = (
    Began | StageStarted | TextDelta | CandidateAdded | VerdictGiven | ScoreGiven | CandidateChosen | Finished
)
OnEvent = Callable[[Event], None]


class Search:
    """The state of one question: its rounds, candidates, verdicts and cost, and the path kept so far.

    A method samples candidates, compares or scores them, and keeps some; everything it does is recorded.

    Attributes:
        request: The checked choices: method, n, judge, sampling, budget, format.
        question: The question with its images.
        model: The model that answers.
        judge: The judge of a method that has one.
        resources: What the method may use besides: reasoner, examples, calibration.
        fmt: The stage format.
        n: The number of candidates.
        rng: The source of every random draw, seeded by the request.
        path: The kept candidates, in order.
        staging: Whether the model writes the stages by itself, thinks, or is prompted for each, once it was
            used.
        partial: Whether the method put the answer into stages itself, and left others out on purpose.
    """

    def __init__(
        self,
        request: Request,
        model: Model,
        question: Question,
        judge: Judge | None = None,
        resources: Resources | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        self.request = request
        self.model = model
        self.question = question
        self.resources = resources or Resources()
        self.fmt: StageFormat = request.fmt
        self.n: int = request.n
        self.rng = random.Random(request.sampling.seed)
        self.stage = ""
        self.round = -1
        self.path: list[Candidate] = []
        self.partial = False
        self.staging: Staging | None = None
        self._judge = judge
        self._on_event = on_event
        self._round_sampling = request.sampling
        self._sampled = 0  # in this round, after the path
        self._judged: dict[str, JudgeScore] = {}  # of this round, by path
        self._streamed = ""  # by the only sample, since the last candidate was kept
        self._candidates: list[Candidate] = []
        self._verdicts: list[Verdict] = []
        self._scores: list[Score] = []
        self._usage = Usage()
        self._started = time.perf_counter()
        self._began = False

    @property
    def judge(self) -> Judge:
        """The judge. Raises ValueError for a method that declares none."""
        if self._judge is None:
            raise ValueError(f"the method {self.request.method} declares no judge; add judge=... to @method")
        return self._judge

    @property
    def text(self) -> str:
        """The answer so far: the texts of the kept candidates."""
        return text_of(self.path)

    # Sampling

    async def sample(
        self,
        stage: str,
        n: int | None = None,
        *,
        stop: Sequence[str] = (),
        max_tokens: int | None = None,
        stream: bool = False,
    ) -> list[Candidate]:
        """Begin a round and sample its candidates, which continue what is kept.

        Args:
            stage: What is sampled: a stage's name, "answer" or "sentence".
            n: The number of candidates; by default the request's, or as many as its budget pays for.
            stop: Strings that end a candidate; they stay in its text.
            max_tokens: The most new tokens of each; by default the request's.
            stream: Send the text of a single candidate as it is written.

        Raises:
            ModelError: The model cannot do it.
        """
        self.begin(stage, stop=stop, max_tokens=max_tokens)
        return await self.more(self.n if n is None else n, stream=stream)

    def begin(self, stage: str, *, stop: Sequence[str] = (), max_tokens: int | None = None) -> None:
        """Begin a round whose candidates are sampled by `more`. Draws the round's seed."""
        self.start(stage)
        self._round_sampling = self.sampling(stop=tuple(stop), max_tokens=max_tokens)

    async def more(self, n: int, *, stream: bool = False) -> list[Candidate]:
        """Sample n further candidates of the round; they do not depend on how they are split over calls."""
        settings = replace(self._round_sampling, first=self._sampled)
        if self.request.budget is None:
            found = await self.write(self.path, n, settings, self.delta if stream else None)
        else:
            found = await budget.draw_within(self, self.request.budget, n, settings)
        self._sampled += len(found)
        if settings.stop and self.stage in self.fmt.names:
            found = [close_cut(continuation, self.stage, self.fmt) for continuation in found]
        return [self.add(continuation) for continuation in found]

    async def write(
        self, path: Sequence[Candidate], n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        """n continuations of a path in this round's stage, not yet recorded: see `add`.

        A model that was trained on the stages writes their tags by itself, one that thinks does so before its
        answer, and any other is prompted for each stage.
        """
        if self.staging is None:
            chosen = self.request.stages
            self.staging = (
                await find_staging(self.model, self.fmt, self.question) if chosen == "auto" else chosen
            )
        if self.staging == "trained" and self.fmt.thinking:
            self.staging = "thinking"
        if self.staging == "thinking":
            return await think(self, path, n, sampling, on_text)
        if self.staging == "prompted":
            return await prompted(self, path, n, sampling, on_text)
        return await self.draw(self.prompt(path), n, sampling, on_text)

    async def reply(
        self, prompt: Prompt, *, model: Model | None = None, stream: bool = False
    ) -> Continuation:
        """One sample of a prompt of the method's own, not yet recorded: see `add`."""
        on_text = self.delta if stream else None
        [continuation] = await self.draw(prompt, 1, self.sampling(), on_text, model)
        return continuation

    def sampling(self, *, stop: tuple[str, ...] = (), max_tokens: int | None = None) -> Sampling:
        """The request's sampling with a seed of its own, drawn from `rng`."""
        chosen = self.request.sampling
        limit = chosen.max_tokens if max_tokens is None else max_tokens
        return replace(chosen, stop=stop, max_tokens=limit, seed=self.rng.getrandbits(63))

    def prompt(self, path: Sequence[Candidate]) -> Prompt:
        """The question, to be answered from the end of this path on."""
        text, tokens = text_of(path), tokens_of(path)
        return Prompt.of(question_text(self.question), self.question.images, text, tokens)

    async def draw(
        self,
        prompt: Prompt,
        n: int,
        sampling: Sampling,
        on_text: OnText | None = None,
        model: Model | None = None,
    ) -> list[Continuation]:
        """n samples of a prompt, not yet recorded: see `add`. Another model reads its text, not its ids."""
        model = model or self.model
        if model is not self.model and prompt.prefix_tokens is not None:
            prompt = replace(prompt, prefix_tokens=None)
        continuations = await model.sample(prompt, n, sampling, on_text)
        if len(continuations) != n:
            raise ModelError(f"the model {model.name} returned {len(continuations)} samples instead of {n}")
        return continuations

    # Choosing

    async def best(self, candidates: Sequence[Candidate]) -> Candidate:
        """The winner of the judge's tournament between this round's candidates (section 3.2)."""
        return await tournament(self, candidates)

    async def scores(self, candidates: Sequence[Candidate]) -> list[float]:
        """The judge's scores, in the order of the candidates; the higher, the better.

        All are requested at once, and each path once a round.
        """
        paths = [self.line(candidate) for candidate in candidates]
        texts = [text_of(path).strip() for path in paths]
        first = dict(zip(reversed(texts), reversed(paths), strict=True))
        seeds = {text: self.rng.getrandbits(63) for text in dict.fromkeys(texts) if text not in self._judged}

        async def judge_one(text: str) -> None:
            *before, candidate = first[text]
            found = await self.judge.score(
                self.question, candidate.stage, text_of(before), candidate, seed=seeds[text]
            )
            self.spend(found.usage)
            self._judged[text] = found

        await asyncio.gather(*map(judge_one, seeds))
        for text, candidate in zip(texts, candidates, strict=True):
            found = self._judged[text]
            self.score(
                Score(
                    candidate=candidate.id,
                    value=found.value,
                    round=self.round,
                    stage=self.stage,
                    judge=self.judge.name,
                    reply=found.reply,
                )
            )
        return [self._judged[text].value for text in texts]

    def keep(self, candidate: Candidate) -> None:
        """Make a candidate part of the answer."""
        self.path.append(candidate)
        self._streamed = ""
        self._send(CandidateChosen(candidate))

    def follow(self, candidate: Candidate) -> None:
        """Keep the leaf of a tree, and before it the candidates that lead there from what is kept."""
        for part in self.line(candidate)[len(self.path) :]:
            self.keep(part)

    # Recording

    def start(self, stage: str) -> None:
        """Begin the next round."""
        self.stage = stage
        self.round += 1
        self._sampled = 0
        self._judged = {}
        self._send(StageStarted(stage, self.round))

    def delta(self, text: str) -> None:
        """Record text that the only sample has gained."""
        self._streamed += text
        self._send(TextDelta(text))

    def add(self, continuation: Continuation, parent: Candidate | None = None) -> Candidate:
        """Record one sample of this round and its cost; it continues `parent`, or what is kept."""
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
        """Count the cost of judging; candidates are counted by `add`."""
        self._usage += usage

    def verdict(self, verdict: Verdict) -> None:
        """Record one duel."""
        self._verdicts.append(verdict)
        self._send(VerdictGiven(verdict))

    def score(self, score: Score) -> None:
        """Record one score."""
        self._scores.append(score)
        self._send(ScoreGiven(score))

    def line(self, candidate: Candidate | None) -> list[Candidate]:
        """The candidate after all those that it continues, the first one first."""
        found: list[Candidate] = []
        while candidate is not None:
            found.insert(0, candidate)
            candidate = None if candidate.parent is None else self._candidates[candidate.parent]
        return found

    def finish(self, unfamiliar: str | None = None) -> Trace:
        """The complete trace, with its warnings, which is also sent as an event; see `find_warnings`."""
        trace = self.so_far()
        warnings = tuple(find_warnings(trace, unfamiliar, partial=self.partial))
        trace = trace.model_copy(update={"warnings": warnings})
        self._send(Finished(trace))
        return trace

    def so_far(self) -> Trace:
        """A trace of what has happened until now."""
        request, resources = self.request, self.resources
        sampling = request.sampling
        text = self.text + self._streamed
        answer = parse(text, self.fmt)
        reasoner = resources.reasoner if "reasoner" in request.declaration.resources else None
        return Trace(
            question=self._question_record,
            model=self.model.name,
            reasoner=None if reasoner is None else reasoner.name,
            method=request.method,
            judge=None if self._judge is None else self._judge.name,
            judge_model=None if self._judge is None else self._judge.model_name,
            n=request.n,
            budget=request.budget,
            seed=sampling.seed,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            sampling=_further_options(sampling) | _bounds(request),
            format=tuple(StageTags(name=s.name, open=s.open, close=s.close) for s in self.fmt.stages),
            final=self.fmt.final,
            staging=self.staging,
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
    def _question_record(self) -> QuestionRecord:
        return QuestionRecord(
            id=self.question.id,
            text=self.question.text,
            options=self.question.options,
            images=tuple(map(_image_record, self.question.images)),
            reference=self.question.reference,
        )

    def _send(self, event: Event) -> None:
        if self._on_event is None:
            return
        if not self._began:  # a method that refuses at once sends nothing
            self._began = True
            self._on_event(Began(self))
        self._on_event(event)


def text_of(path: Sequence[Candidate]) -> str:
    """The text of candidates, each of which continues the one before it."""
    return "".join(candidate.text for candidate in path)


def tokens_of(path: Sequence[Candidate]) -> tuple[int, ...] | None:
    """The token ids of `text_of`; None where one candidate's are not known."""
    if any(candidate.text and not candidate.tokens for candidate in path):
        return None
    return tuple(token for candidate in path for token in candidate.tokens)


def close_cut(continuation: Continuation, stage: str, fmt: StageFormat) -> Continuation:
    """Close the stage in which a continuation ran out of tokens, `stage` if that is open.

    Its token ids are dropped, since they are no longer those of its text: what follows continues the text.
    """
    if continuation.finish != "length":
        return continuation
    closed = close_cut_stage(continuation.text, stage, fmt)
    return continuation if closed is None else replace(continuation, text=closed, tokens=())


# The options of sampling that have fields of their own in a trace.
_RECORDED = ("seed", "temperature", "top_p", "max_tokens")


def _further_options(sampling: Sampling) -> dict[str, float]:
    """The other options of sampling that differ from their defaults."""
    default = Sampling()
    return {
        name: getattr(sampling, name)
        for name in SAMPLING_OPTIONS
        if name not in _RECORDED and getattr(sampling, name) != getattr(default, name)
    }


def _bounds(request: Request) -> dict[str, float]:
    """The bounds of the thinking that are set."""
    bounds = {"think_tokens": request.think_tokens, "min_think_tokens": request.min_think_tokens}
    return {name: value for name, value in bounds.items() if value is not None}


def _image_record(image: LoadedImage) -> ImageRecord:
    width, height = image.pil.size
    return ImageRecord(name=image.name, sha256=image.sha256, width=width, height=height, data=image.small)
