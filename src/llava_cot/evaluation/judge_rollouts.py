"""Measuring a judge on a file of rollouts: sampled answers, of which it is known which are right."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean

from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Candidate
from llava_cot.data.rollouts.rollout_file import QuestionRollouts, Rollout, stage_ends
from llava_cot.data.schedule import ImagePool, run_all
from llava_cot.errors import ModelError
from llava_cot.evaluation.judge_accuracy import (
    BEST,
    EVEN,
    JUDGE,
    ONE,
    VOTE,
    WHOLE,
    JudgedQuestion,
    JudgedText,
    OrderedPairs,
    even_choice,
    order,
)
from llava_cot.evaluation.scorer import retry
from llava_cot.models.base import Continuation, Model, seed_of
from llava_cot.search.judges.base import JUDGES, Judge
from llava_cot.search.methods.majority import ballot
from llava_cot.search.request import Request
from llava_cot.search.resources import Resources
from llava_cot.search.search import Search

_DUELS = 4  # random pairs of a question at a stage, of a judge that must compare them one by one


@dataclass(frozen=True)
class _Choice:
    """The different texts that continue one text: what a search would choose among.

    `right` and `wrong` are the numbers of samples with each.
    """

    what: str  # a stage, or whole answers
    context: str
    texts: tuple[str, ...]
    right: tuple[int, ...]
    wrong: tuple[int, ...]

    @property
    def stage(self) -> str:
        """What a judge takes it for."""
        return "answer" if self.what == WHOLE else self.what


async def judge_rollouts(
    request: Request,
    model: Model,
    judge: Judge,
    questions: Iterable[QuestionRollouts],
    folder: Path,
    *,
    resources: Resources | None = None,
    at_once: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[JudgedQuestion]:
    """Have a judge look at the samples of questions as a search would at its candidates.

    Args:
        request: That of a search with this judge. Its seed and a question's id settle whatever is random.
        model: The model that the samples are from.
        judge: The judge.
        questions: Those without samples are left out.
        folder: The folder of their pictures.
        resources: As for a search.
        at_once: How many questions are judged at the same time.
        on_progress: Called with the number of questions done.

    Raises:
        ModelError, ImageError, DataError: of the judge, the pictures, the file.
    """
    pool = ImagePool()
    found: dict[int, JudgedQuestion] = {}

    async def one(numbered: tuple[int, QuestionRollouts]) -> None:
        number, rollouts = numbered
        seeded = request.with_seed(seed_of(request.sampling.seed, rollouts.id))
        async with pool.open(rollouts.pictures(folder)) as images:
            question = Question(
                rollouts.question, await images(), rollouts.id, rollouts.options, rollouts.answer
            )
            measurement = _Measurement(seeded, model, judge, question, resources)
            found[number] = await retry(lambda: measurement.judged(rollouts.samples))
        on_progress(len(found))

    failure = await run_all(enumerate(q for q in questions if q.samples), one, at_once, lambda: False)
    if failure is not None:
        raise ModelError(failure)
    return [found[number] for number in sorted(found)]


def split(text: str, fmt: StageFormat) -> Iterator[tuple[str, str, str]]:
    """The candidates of a search over stages that make up an answer: stage, text before it, text."""
    ends, start, at = stage_ends(text, fmt), 0, 0
    while at < len(fmt.stages):
        closed = next((i for i in range(at, len(fmt.stages)) if fmt.names[i] in ends), None)
        end = len(text) if closed is None else ends[fmt.names[closed]]
        yield fmt.names[at], text[:start], text[start:end]
        start, at = end, len(fmt.stages) if closed is None else closed + 1


def choices(samples: Sequence[Rollout], fmt: StageFormat) -> list[_Choice]:
    """All choices of a search over stages, and last the one among whole answers."""
    texts: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    counts = Counter[tuple[str, str, str, bool]]()
    for sample in samples:
        for what, context, text in (*split(sample.text, fmt), (WHOLE, "", sample.text)):
            same = texts[what, context].setdefault(text.strip(), text)
            counts[what, context, same, sample.right] += sample.times
    order = (*fmt.names, WHOLE)
    return [
        _Choice(
            what,
            context,
            tuple(different.values()),
            tuple(counts[what, context, text, True] for text in different.values()),
            tuple(counts[what, context, text, False] for text in different.values()),
        )
        for (what, context), different in sorted(texts.items(), key=lambda item: order.index(item[0][0]))
    ]


@dataclass(frozen=True)
class _Measurement:
    """A judge and one question.

    A judge whose duels follow from its scores scores each text. Any other one plays tournaments: of up to
    four random pairs of different texts at each stage, and of the different whole answers.
    """

    request: Request
    model: Model
    judge: Judge
    question: Question
    resources: Resources | None

    async def judged(self, samples: Sequence[Rollout]) -> JudgedQuestion:
        judge, fmt = self.judge, self.request.fmt
        own_duels = (type(judge).prefer, type(judge).check) != (Judge.prefer, Judge.check)
        by_what: dict[str, list[_Choice]] = defaultdict(list)
        for choice in choices(samples, fmt):
            by_what[choice.what].append(choice)
        pairs: list[OrderedPairs] = []
        scored: dict[str, tuple[JudgedText, ...]] = {}
        scores: list[list[float]] = []  # of one stage after the other; at the end, of the whole answers
        for what, found in by_what.items():
            if judge.can_score:
                scores = await asyncio.gather(*map(self._scores, found))
                scored[what] = tuple(_labeled(found, scores))
            counted = await self._duels(found) if own_duels else list(_compared(found, scores))
            pairs += [OrderedPairs(self.question.id or "", what, *one) for one in counted]
        [whole] = by_what[WHOLE]
        favored = await self._winner(whole, range(len(whole.texts))) if own_duels else _highest(scores[0])
        return JudgedQuestion(tuple(pairs), scored, self._chosen(whole, favored))

    async def _scores(self, choice: _Choice) -> list[float]:
        search, candidates = await self._search(choice, range(len(choice.texts)))
        return await search.scores(candidates)

    async def _duels(self, found: Sequence[_Choice]) -> list[tuple[float, float]]:
        """Up to four random pairs: how many of their samples are ordered rightly, of how many."""
        every = [
            (choice, a, b)
            for choice in found
            for a, b in combinations(range(len(choice.texts)), 2)
            if choice.right[a] * choice.wrong[b] or choice.right[b] * choice.wrong[a]
        ]
        rng = random.Random(f"{self.request.sampling.seed}/{found[0].what}")
        played = rng.sample(every, min(_DUELS, len(every)))
        winners = await asyncio.gather(*(self._winner(choice, (a, b)) for choice, a, b in played))
        return [
            _ordered(choice, a, b, order(a in winner, b in winner))
            for (choice, a, b), winner in zip(played, winners, strict=True)
        ]

    async def _winner(self, choice: _Choice, texts: Sequence[int]) -> list[int]:
        """The winner of a tournament between these texts; both of two that the judge does not tell apart."""
        search, candidates = await self._search(choice, texts)
        winner = await search.best(candidates)
        verdicts = search.so_far().verdicts
        if len(texts) == 2 and verdicts[0].decided_by == "seed":
            return list(texts)
        return [texts[candidates.index(winner)]]

    async def _search(self, choice: _Choice, texts: Sequence[int]) -> tuple[Search, list[Candidate]]:
        """A search that has come to these texts."""
        seeded = self.request.with_seed(
            seed_of(self.request.sampling.seed, choice.what, choice.context, *texts)
        )
        search = Search(seeded, self.model, self.question, self.judge, self.resources)
        if choice.context:
            search.start(self.request.fmt.names[0])
            search.keep(search.add(Continuation(choice.context, (), None, "stop", 0, 1)))
        search.start(choice.stage)
        return search, [search.add(await self._continuation(search, choice.texts[i])) for i in texts]

    async def _continuation(self, search: Search, text: str) -> Continuation:
        """A text as a sample, with its log-probability if the judge goes by that."""
        known = JUDGES.get(self.judge.name)
        if known is None or not known.logprobs or known.uses != "nothing":
            return Continuation(text, (), None, "stop", 0, 1)
        prompt = search.prompt(search.path)
        whole = replace(prompt, prefix=prompt.prefix + text)
        tokens = self.model.count_tokens(whole) - self.model.count_tokens(prompt)
        [logprob] = await self.model.choose(prompt, [text])
        return Continuation(text, (), logprob, "stop", 0, max(1, tokens))

    def _chosen(self, whole: _Choice, favored: Sequence[int]) -> dict[str, float]:
        """How often each way of choosing among the samples is right."""
        counts = list(zip(whole.right, whole.wrong, strict=True))
        values = [right / (right + wrong) for right, wrong in counts]
        votes = Counter[str]()
        ballots = [ballot(text, self.question, self.request.fmt) for text in whole.texts]
        for cast, (right, wrong) in zip(ballots, counts, strict=True):
            votes[cast] += right + wrong
        del votes[""]
        most = max(votes.values(), default=0)
        elected = [values[ballots.index(answer)] for answer, count in votes.items() if count == most]
        return {
            ONE: sum(whole.right) / sum(map(sum, counts)),
            EVEN: even_choice(zip(whole.texts, values, strict=True)),
            VOTE: fmean(elected or values),
            JUDGE: fmean(values[i] for i in favored),
            BEST: max(values),
        }


def _ordered(choice: _Choice, a: int, b: int, first: float) -> tuple[float, float]:
    """Of the pairs of samples with two texts, one right and one wrong: how many are ordered, and all.

    `first` is 1 if the judge prefers `a`, 0 if it prefers `b`, a half for neither.
    """
    for_a, for_b = choice.right[a] * choice.wrong[b], choice.right[b] * choice.wrong[a]
    return for_a * first + for_b * (1 - first), for_a + for_b


def _compared(found: Sequence[_Choice], scores: Sequence[Sequence[float]]) -> Iterator[tuple[float, float]]:
    for choice, values in zip(found, scores, strict=True):
        for a, b in combinations(range(len(choice.texts)), 2):
            ordered, count = _ordered(choice, a, b, order(values[a], values[b]))
            if count:
                yield ordered, count


def _labeled(found: Sequence[_Choice], scores: Sequence[Sequence[float]]) -> Iterator[JudgedText]:
    for choice, values in zip(found, scores, strict=True):
        for score, right, wrong in zip(values, choice.right, choice.wrong, strict=True):
            if right:
                yield JudgedText(True, score, right)
            if wrong:
                yield JudgedText(False, score, wrong)


def _highest(scores: Sequence[float]) -> list[int]:
    """The places of the highest score."""
    return [i for i, score in enumerate(scores) if score == max(scores)]
