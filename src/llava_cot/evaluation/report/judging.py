"""What the searches of a report say of judges: how duels were decided, how right and wrong are ordered."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean

from llava_cot.core.stages import StageFormat, parse
from llava_cot.core.trace import Candidate, Trace
from llava_cot.data.preferences.pairs import format_of
from llava_cot.evaluation.judge_accuracy import (
    WHOLE,
    JudgedText,
    OrderedPairs,
    auc,
    even_choice,
    order,
    share_ordered,
)
from llava_cot.evaluation.report.arms import Arm, name_cell
from llava_cot.evaluation.report.document import Cell, ReportTable, interval, number
from llava_cot.evaluation.types import RIGHT, Unit

# The score of an answer in a stage format, by its words alone; None where they do not decide.
ScoreText = Callable[[str, StageFormat], float | None]


@dataclass
class ArmJudging:
    """The judging in the traces of one arm.

    Attributes:
        decided: How many duels were decided in which way.
        pairs: Right and wrong answers to one question that the judge compared or scored.
        scored: The answers that it scored, by stage.
        even: By question, the score of an even choice among the different answers that were sampled.
    """

    decided: Counter[str] = field(default_factory=Counter)
    pairs: list[OrderedPairs] = field(default_factory=list)
    scored: dict[str, list[JudgedText]] = field(default_factory=lambda: defaultdict(list))
    even: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, item: str, trace: Trace, score: ScoreText) -> None:
        """Add the trace of a question. Only candidates that conclude can be right or wrong."""
        self.decided.update(verdict.decided_by for verdict in trace.verdicts)
        if trace.n == 1 or not trace.format:
            return
        known = dict(_concluded(trace, score))
        self._add_verdicts(item, trace, known)
        self._add_scores(item, trace, known)
        whole = [one for one in trace.candidates if _what(one) == WHOLE]
        if whole and all(one.id in known for one in whole):
            self.even[item].append(even_choice((one.text.strip(), known[one.id]) for one in whole))

    def _add_verdicts(self, item: str, trace: Trace, known: dict[int, float]) -> None:
        for verdict in trace.verdicts:
            if verdict.decided_by == "same" or not {verdict.a, verdict.b} <= known.keys():
                continue
            right = {side for side in (verdict.a, verdict.b) if known[side] >= RIGHT}
            if len(right) == 1:
                ordered = 0.5 if verdict.decided_by == "seed" else float(verdict.winner in right)
                what = _what(trace.candidates[verdict.a])
                self.pairs.append(OrderedPairs(item, what, ordered, 1))

    def _add_scores(self, item: str, trace: Trace, known: dict[int, float]) -> None:
        rounds: dict[tuple[int, int | None], list[tuple[Candidate, float]]] = defaultdict(list)
        for given in trace.scores:
            candidate = trace.candidates[given.candidate]
            if given.candidate in known:
                rounds[given.round, candidate.parent].append((candidate, given.value))
        for judged in rounds.values():
            for candidate, value in judged:
                self.scored[_what(candidate)].append(JudgedText(known[candidate.id] >= RIGHT, value))
            for (a, x), (b, y) in combinations(judged, 2):
                right = [known[a.id] >= RIGHT, known[b.id] >= RIGHT]
                if right[0] != right[1]:
                    ordered = order(x, y) if right[0] else order(y, x)
                    self.pairs.append(OrderedPairs(item, _what(a), ordered, 1))


def _concluded(trace: Trace, score: ScoreText) -> Iterator[tuple[int, float]]:
    """The candidates that conclude an answer, with its score; not those that words do not decide."""
    fmt, texts = format_of(trace), dict[int, str]()
    for one in trace.candidates:
        texts[one.id] = (texts[one.parent] if one.parent is not None else "") + one.text
        if _what(one) != WHOLE and not parse(texts[one.id], fmt).conclusion:
            continue
        if (found := score(texts[one.id], fmt)) is not None:
            yield one.id, found


def _what(candidate: Candidate) -> str:
    return WHOLE if candidate.stage == "answer" and candidate.parent is None else candidate.stage


def judges_table(arms: Sequence[Arm], judging: Mapping[Arm, ArmJudging]) -> ReportTable | None:
    """How judges order right and wrong answers; None where none compared any."""
    rows = []
    for arm in arms:
        found = judging[arm]
        for what in dict.fromkeys(pair.stage for pair in found.pairs):
            pairs = [pair for pair in found.pairs if pair.stage == what]
            share, over_all = share_ordered(pairs), auc(found.scored.get(what, []))
            assert share is not None
            rows.append(
                (
                    name_cell(arm),
                    Cell(what),
                    Cell(f"{sum(pair.count for pair in pairs):,.0f}"),
                    Cell(number(share.value), interval(share)),
                    Cell("–" if over_all is None else f"{over_all:.2f}"),
                )
            )
    if not rows:
        return None
    head = ("method", "judged", "right-wrong pairs", "ordered rightly", "AUC over all questions")
    note = (
        "Ordered rightly are, of the pairs of a right and a wrong answer to one question that the judge "
        "compared or scored, those in which it prefers the right one, in percent; 50 is chance. Only this "
        "tells what a search can gain. The AUC over all questions is also high for a judge that merely knows "
        "which questions are easy. Only candidates that conclude are known to be right or wrong; "
        "`llava-cot judge measure` measures every stage."
    )
    return ReportTable("Judges: right and wrong answers", head, tuple(rows), names=2, note=note)


def even_units(found: ArmJudging) -> list[Unit]:
    """The score of an even choice by question, of those of which it is known."""
    return [Unit(item, fmean(values), "", item) for item, values in found.even.items()]
