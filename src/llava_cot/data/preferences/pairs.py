"""What a trace teaches: which of two texts is better at a stage, and a whole answer to learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Literal

from llava_cot.core.answer_matching import agrees, option_of
from llava_cot.core.stages import Stage, StageFormat, last_closed, parse, validate
from llava_cot.core.trace import Candidate, Check, Trace, Verdict
from llava_cot.data.record import Turn


@dataclass(frozen=True)
class PreferencePair:
    """Two continuations of one text (`prefix`, the answer so far), of which a judge prefers one.

    `decided_by` is the verdict's "choice", or a "check" that the other one failed; "score" if there was no
    duel and the judge gave one of them the higher score.
    """

    stage: str
    prefix: str
    chosen: str
    rejected: str
    judge: str
    decided_by: str


def pairs(trace: Trace, *, keep_wrong: bool = False) -> tuple[list[PreferencePair], Counter[str]]:
    """The pairs of a trace, and how many are left out by reason.

    There is one for each decided duel, and one for each group of scored candidates: the best and the worst of
    the same judge, stage and parent. No more is inferred, such as that a winner would have beaten candidates
    that it never met. `keep_wrong` keeps pairs whose winner concludes with another answer than the reference.
    """
    fmt = format_of(trace)
    left: Counter[str] = Counter()
    found: list[PreferencePair] = []
    compared: list[Verdict | _Compared] = [*trace.verdicts, *_by_score(trace)]
    for verdict in compared:
        reason = _why_not(verdict, trace, fmt, keep_wrong)
        if reason is None:
            found.append(_pair(verdict, trace))
        else:
            left[reason] += 1
    return found, left


@dataclass(frozen=True)
class _Compared:
    """Two candidates compared by their scores, in the form of a verdict."""

    a: int
    b: int
    winner: int
    stage: str
    judge: str
    decided_by: Literal["score", "tie"]
    checks: tuple[Check, ...] = ()


def _by_score(trace: Trace) -> Iterator[_Compared]:
    """The best and the worst of each group of scores, in the order of the first ones.

    Of several scores of one candidate the last one counts. A group of one candidate gives nothing.
    """
    groups: dict[tuple[str, str, int | None], dict[int, float]] = {}
    for score in trace.scores:
        candidate = trace.candidates[score.candidate]
        groups.setdefault((score.judge, candidate.stage, candidate.parent), {})[score.candidate] = score.value
    for (judge, stage, _), values in groups.items():
        if len(values) < 2:
            continue
        best = max(values, key=lambda id: values[id])
        worst = min(reversed(values), key=lambda id: values[id])
        tied = not values[best] > values[worst]
        yield _Compared(best, worst, best, stage, judge, "tie" if tied else "score")


def winning(trace: Trace) -> tuple[Turn | None, str]:
    """The question with the trace's answer as its response, or None and why it is left out.

    The answer must keep to its format, must not be cut off, and must give the reference if there is one.
    """
    if trace.answer is None:
        return None, "there is no conclusion"
    if validate(trace.text, format_of(trace)):
        return None, "the answer departs from the stage format"
    if any(trace.candidates[id].finish == "length" for id in trace.chosen):
        return None, "the answer ran out of tokens"
    question = trace.question
    if question.reference is not None:
        agreement = agrees(trace.answer, question.reference, question.options)
        if agreement is not True:
            return None, "the answer is wrong" if agreement is False else "words do not tell if it is right"
    return Turn(question.text, _standard(trace), question.options, response=trace.text.strip()), ""


def format_of(trace: Trace) -> StageFormat:
    """The stage format of a trace. Raises ValueError if it has none."""
    return StageFormat(
        tuple(Stage(tags.name, tags.open, tags.close) for tags in trace.format), trace.final or ""
    )


def _standard(trace: Trace) -> str | None:
    """The reference as records have it: an option's letter, if there are options."""
    reference, options = trace.question.reference, trace.question.options
    number = option_of(reference, options) if reference is not None else None
    return reference if number is None else ascii_uppercase[number]


def _why_not(verdict: Verdict | _Compared, trace: Trace, fmt: StageFormat, keep_wrong: bool) -> str | None:
    winner, loser = _winner_and_loser(verdict, trace)
    if verdict.decided_by == "same" or winner.text.strip() == loser.text.strip():
        return "both texts are the same"
    if verdict.decided_by == "seed":
        return "the judge chose neither"
    if verdict.decided_by == "tie":
        return "the scores are all the same"
    # If both fail the check, one of them is continued all the same, and no judge preferred it.
    if any(check.candidate == winner.id and check.correct is False for check in verdict.checks):
        return "both were found incorrect"
    if winner.finish == "length":
        return "the winner ran out of tokens"
    reference = trace.question.reference
    if not keep_wrong and reference is not None:
        conclusion = _conclusion(winner, trace, fmt)
        if conclusion and agrees(conclusion, reference, trace.question.options) is False:
            return "the winner's conclusion is wrong"
    return None


def _conclusion(candidate: Candidate, trace: Trace, fmt: StageFormat) -> str | None:
    """The conclusion of the answer that the candidate is part of; None if the search did not continue it."""
    text = _before(candidate, trace) + candidate.text
    if last_closed(text, fmt) == fmt.names.index(fmt.final) or candidate.stage == "answer":
        return parse(text, fmt).answer
    return trace.answer if candidate.id in trace.chosen else None


def _pair(verdict: Verdict | _Compared, trace: Trace) -> PreferencePair:
    winner, loser = _winner_and_loser(verdict, trace)
    prefix, other = _before(winner, trace), _before(loser, trace)
    if prefix != other:  # they continue different candidates: compared from the last one they share
        paths = zip(_path(winner, trace), _path(loser, trace), strict=False)
        common = [a for a, b in paths if a.id == b.id]
        shared = "".join(candidate.text for candidate in common)
        return PreferencePair(
            verdict.stage, shared, (prefix + winner.text)[len(shared) :], (other + loser.text)[len(shared) :],
            verdict.judge, verdict.decided_by,
        )  # fmt: skip
    return PreferencePair(verdict.stage, prefix, winner.text, loser.text, verdict.judge, verdict.decided_by)


def _winner_and_loser(verdict: Verdict | _Compared, trace: Trace) -> tuple[Candidate, Candidate]:
    loser = verdict.b if verdict.winner == verdict.a else verdict.a
    return trace.candidates[verdict.winner], trace.candidates[loser]


def _before(candidate: Candidate, trace: Trace) -> str:
    return "".join(earlier.text for earlier in _path(candidate, trace)[:-1])


def _path(candidate: Candidate, trace: Trace) -> list[Candidate]:
    path = [candidate]
    while (parent := path[0].parent) is not None:
        path.insert(0, trace.candidates[parent])
    return path
