"""How well a judge orders right and wrong answers: pairs of one question, and the AUC over all questions.

A search compares candidates of one question only, so the share of its right-wrong pairs that a judge orders
rightly tells what a search can gain. The AUC over all does not: it is also high for a judge that knows which
questions are easy, and cannot tell two answers to one question apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from llava_cot.evaluation.statistics import MeanEstimate, mean_with_interval, share_with_interval
from llava_cot.evaluation.types import Unit

WHOLE = "whole answers"  # what is judged besides stages
# What chooses among the samples of a question.
ONE, EVEN, VOTE = "one sample", "an even choice among different answers", "majority of the samples"
JUDGE, BEST = "the judge", "the best sample (oracle)"


@dataclass(frozen=True)
class JudgedText:
    """A text that a judge has scored.

    Attributes:
        right: Whether the answer that it belongs to is right.
        score: The judge's score.
        times: How many samples have this text.
    """

    right: bool
    score: float
    times: int = 1


@dataclass(frozen=True)
class OrderedPairs:
    """Pairs of a right and a wrong answer to one question at one stage.

    Attributes:
        question: The question's id.
        stage: The stage at which the two part, or `WHOLE`.
        ordered: How many the judge orders rightly; a draw is half of one.
        count: How many there are.
    """

    question: str
    stage: str
    ordered: float
    count: float


@dataclass(frozen=True)
class JudgedQuestion:
    """What a judge makes of the samples of one question.

    Attributes:
        pairs: The right-wrong pairs by the stage at which the two part, and as whole answers.
        scored: By stage, the samples with their scores; empty for a judge that only compares.
        chosen: How often what is chosen is right, from 0 to 1, by what chooses.
    """

    pairs: tuple[OrderedPairs, ...]
    scored: Mapping[str, tuple[JudgedText, ...]]
    chosen: Mapping[str, float]


@dataclass(frozen=True)
class StageAccuracy:
    """How a judge orders at one stage.

    Attributes:
        stage: The stage, or `WHOLE`.
        pairs: The number of right-wrong pairs of one question that part there.
        ordered: The share of these that it orders rightly, in percent; None where there are none.
        auc: The same share among all questions, from 0 to 1; None of a judge that only compares.
    """

    stage: str
    pairs: float
    ordered: MeanEstimate | None
    auc: float | None


@dataclass(frozen=True)
class JudgeAccuracy:
    """How a judge orders and chooses.

    Attributes:
        questions: How many questions were judged.
        mixed: How many of them have right and wrong samples.
        stages: In the order of the format, and last the whole answers.
        chosen: How often each way of choosing is right, in percent.
    """

    questions: int
    mixed: int
    stages: tuple[StageAccuracy, ...]
    chosen: Mapping[str, MeanEstimate]


def accuracy(judged: Sequence[JudgedQuestion], stages: Sequence[str]) -> JudgeAccuracy:
    """Sum up what a judge made of at least one question, for the stages of its format."""
    pairs = [pair for question in judged for pair in question.pairs]
    rows = []
    for stage in (*stages, WHOLE):
        mine = [pair for pair in pairs if pair.stage == stage]
        texts = [text for question in judged for text in question.scored.get(stage, ())]
        rows.append(StageAccuracy(stage, sum(pair.count for pair in mine), share_ordered(mine), auc(texts)))
    chosen = {
        name: mean_with_interval([Unit(str(i), one.chosen[name], "", str(i)) for i, one in enumerate(judged)])
        for name in judged[0].chosen
    }
    mixed = sum(0 < question.chosen[ONE] < 1 for question in judged)
    return JudgeAccuracy(len(judged), mixed, tuple(rows), chosen)


def order(right: float, wrong: float) -> float:
    """Whether a right answer's score is above a wrong one's: 1, 0, or a half if they are equal."""
    return 0.5 if right == wrong else float(right > wrong)


def share_ordered(pairs: Iterable[OrderedPairs]) -> MeanEstimate | None:
    """The share of pairs that are ordered rightly, in percent; the interval is a bootstrap over questions.

    None where there are no pairs.
    """
    found: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for one in pairs:
        ordered, count = found[one.question]
        found[one.question] = ordered + one.ordered, count + one.count
    return share_with_interval(found) if any(count for _, count in found.values()) else None


def auc(texts: Sequence[JudgedText]) -> float | None:
    """The share of all right-wrong pairs of samples, of whatever questions, that the scores order rightly.

    A draw is half of one. None where all are right, or all are wrong.
    """
    ordered = wrong_below = 0.0
    for _, same in groupby(sorted(texts, key=lambda text: text.score), key=lambda text: text.score):
        equal = list(same)
        right = sum(text.times for text in equal if text.right)
        wrong = sum(text.times for text in equal if not text.right)
        ordered += right * (wrong_below + wrong / 2)
        wrong_below += wrong
    pairs = wrong_below * sum(text.times for text in texts if text.right)
    return ordered / pairs if pairs else None


def even_choice(values: Iterable[tuple[str, float]]) -> float:
    """The expected value of a choice that takes each *different* text with equal chance, of text and value.

    This is what a judge does that knows nothing, since equal texts get equal scores. It is below one sample
    where right answers are drawn more often than any one wrong answer: a text's number of samples is lost.
    """
    different = dict(values)
    return sum(different.values()) / len(different)
