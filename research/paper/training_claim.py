"""1. Does staged training help? The ways of training, each by several models.

The unit is a trained model: its score is a mean over the questions, and the intervals are Student's over the
training seeds. Two ways of training are compared seed by seed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from llava_cot.evaluation.report.arms import Arm
from llava_cot.evaluation.report.document import (
    Cell,
    ReportSection,
    ReportTable,
    score_cell,
    signed,
    signed_interval,
)
from llava_cot.evaluation.statistics import MeanEstimate, mean_with_interval, paired
from llava_cot.evaluation.types import Unit
from llava_cot.scenes.questions import PERCEPTION
from research.paper.arm_training import ARMS
from research.paper.claims import Arms, outcome, points, units
from research.paper.tasks import AS_TRAINED, BASE, PROMPTED

_BY_DEPTH = " by depth"  # the end of a metric's name


@dataclass(frozen=True)
class PaperGain:
    """What the paper reports for a comparison, in points, and where."""

    value: float
    where: str


# Version 6: means of six benchmarks, and of the reasoning subsets of table 7.
_PAPER = {
    "untagged": PaperGain(1.5, "six benchmarks: 60.9 to 62.4"),
    "direct": PaperGain(3.4, "six benchmarks: 59.0 to 62.4"),
    "shuffled": PaperGain(4.9, "reasoning subsets: 58.2 to 63.1"),
    BASE: PaperGain(5.8, "six benchmarks: 56.6 to 62.4"),
}
_MMSTAR = (
    "The paper finds large gains over training on the bare answers where reasoning is needed (on MMStar "
    "logic 52.0 to 58.0, math 51.6 to 64.0, science 40.0 to 44.8) and small ones for perception (coarse "
    "68.4 to 68.8, fine 48.0 to 46.8). Prompting its base model for the stages changes nothing (56.9)."
)


@dataclass(frozen=True)
class QuestionKind:
    """Some of the questions: those of these types, or of this depth; all if neither is given."""

    name: str
    types: Collection[str] | None = None
    depth: str | None = None

    def units(self, arm: Arm) -> list[Unit]:
        """Return an arm's units of these questions."""
        if self.depth is not None:
            return [unit for unit in _depth_units(arm) if unit.skill == self.depth]
        return [unit for unit in units(arm) if self.types is None or unit.skill in self.types]

    def score(self, arm: Arm) -> float:
        """Return an arm's score on these questions, in percent."""
        return 100 * fmean(unit.value for unit in self.units(arm))


def trained_models(arms: Arms) -> dict[str, list[Arm]]:
    """Return the models of each way of training, by seed; empty where none was evaluated."""
    found: dict[str, dict[int, Arm]] = {}
    for (model, method), arm in arms.items():
        name, _, seed = model.rpartition("-")
        if method == AS_TRAINED and name in ARMS and seed.isdigit():
            found.setdefault(name, {})[int(seed)] = arm
    return {name: [found[name][seed] for seed in sorted(found[name])] for name in ARMS if name in found}


def over_trainings(values: Sequence[float]) -> MeanEstimate:
    """Return the mean of values, one of each trained model, with Student's 95% interval over the models.

    Raises ValueError for fewer than two: one model says nothing of the noise of training.
    """
    from scipy.stats import t

    if len(values) < 2:
        raise ValueError("an interval over trained models needs two of them; train with more seeds")
    value = fmean(values)
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return MeanEstimate(value, value - half, value + half)


def training(arms: Arms) -> ReportSection:
    """Return the section on the ways of training, which were all evaluated with the same seeds."""
    models = trained_models(arms)
    bases = {
        name: arm
        for name, method in ((BASE, AS_TRAINED), (f"{BASE}, prompted", PROMPTED))
        if (arm := arms.get((BASE, method))) is not None
    }
    staged = models["staged"]
    groups = list(_groups(staged[0]))
    sentences, rows = [], []
    for name in _PAPER:
        others = models.get(name) or [bases[name]] * len(staged)
        gains = {kind.name: _gains(kind, others, staged) for kind in groups}
        if len(groups) > 1:
            both = zip(gains["reasoning"], gains["perception"], strict=True)
            gains["reasoning beyond perception"] = [a - b for a, b in both]
        changes = {what: over_trainings(values) for what, values in gains.items()}
        for what, change in changes.items():
            result = points(change) if what in ("perception", "reasoning") else outcome(change)
            sentences.append(f"Staged against {name}, {what}: {result}.")
        shown = (Cell(signed(change.value), signed_interval(change)) for change in changes.values())
        rows.append((Cell(name), *shown, Cell(signed(_PAPER[name].value), _PAPER[name].where)))
    if len(bases) > 1:
        change = paired(*map(units, bases.values()))
        sentences.append(f"The base prompted for the stages, against the base as it is: {points(change)}.")
    note = (
        "Percent right, one sampled pass. The unit is a trained model, since the noise of training counts: "
        f"means over {len(staged)} training seeds, with Student's 95% intervals over these. All models "
        "answer the same questions, whose choice is not part of the intervals. The base is one model, so "
        "that its own intervals are over the questions."
    )
    head = ("staged against", *gains, "the paper")
    gained = ReportTable("What staged training gains", head, tuple(rows), note=note)
    scores = _scores([*groups, *_finer(staged[0])], models, bases)
    return ReportSection("1. Does staged training help?", (*sentences, gained, scores, _MMSTAR))


def _groups(arm: Arm) -> Iterator[QuestionKind]:
    """Yield all questions, and perception and reasoning where there are both."""
    yield QuestionKind("all questions")
    types = {unit.skill for unit in units(arm)}
    if (seen := types & set(PERCEPTION)) and seen != types:
        yield QuestionKind("perception", seen)
        yield QuestionKind("reasoning", types - seen)


def _finer(arm: Arm) -> Iterator[QuestionKind]:
    """Yield the types of the benchmark, perception first, and the depths of its chains."""
    types = {unit.skill for unit in units(arm)}
    for name in sorted(types, key=lambda name: (name not in PERCEPTION, name)):
        yield QuestionKind(name or "no type", (name,))
    for depth in sorted({unit.skill for unit in _depth_units(arm)} - {"", "0"}, key=int):
        yield QuestionKind(f"depth {depth}", depth=depth)


def _depth_units(arm: Arm) -> list[Unit]:
    return [unit for metric in arm.metrics if metric.name.endswith(_BY_DEPTH) for unit in metric.units]


def _gains(kind: QuestionKind, others: Sequence[Arm], staged: Sequence[Arm]) -> list[float]:
    """Return how much better each staged model is than the other of its seed, in points."""
    return [kind.score(b) - kind.score(a) for a, b in zip(others, staged, strict=True)]


def _scores(
    kinds: Sequence[QuestionKind],
    models: Mapping[str, Sequence[Arm]],
    bases: Mapping[str, Arm],
) -> ReportTable:
    """Return the table of all scores by kind of question."""
    rows = []
    for kind in kinds:
        trained = [over_trainings([kind.score(arm) for arm in found]) for found in models.values()]
        before = [mean_with_interval(kind.units(arm)) for arm in bases.values()]
        rows.append((Cell(kind.name), *map(score_cell, (*trained, *before))))
    return ReportTable("The ways of training", ("questions", *models, *bases), tuple(rows))
