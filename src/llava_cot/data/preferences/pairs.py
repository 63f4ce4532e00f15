"""What a trace teaches: which of two texts is better at a stage, and a whole answer that is worth repeating.

Owns the rules of what is taken and of what is left out, each with its reason. Knows no file and no trainer.
"""

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
    """Two ways to go on after `prefix`, the text kept so far (or empty): the judge prefers one of them.

    `judge` is its name; `decided_by` is the verdict's: its "choice", or a "check" that the other one failed.
    It is "score" where there was no duel, and the judge gave one of them the higher score.
    """

    stage: str
    prefix: str
    chosen: str
    rejected: str
    judge: str
    decided_by: str


def pairs(trace: Trace, *, keep_wrong: bool = False) -> tuple[list[PreferencePair], Counter[str]]:
    """A pair for each duel that was decided, and one of the best and the worst by score of those that go on
    from the same candidate with the same stage; and how many of them are left out, by reason.

    Only what was judged is told: that a winner would have beaten those it never met is not inferred. Without
    `keep_wrong`, a winner whose conclusion contradicts the question's reference is left out.
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
    """Two candidates of which the scores, not a duel, tell the better one; read as a verdict is."""

    a: int
    b: int
    winner: int
    stage: str
    judge: str
    decided_by: Literal["score", "tie"]
    checks: tuple[Check, ...] = ()


def _by_score(trace: Trace) -> Iterator[_Compared]:
    """The best and the worst of each judge's scores that can be compared, in the order of the first ones.

    Of several scores of one candidate the last one counts. A candidate by itself is compared with none.
    """
    groups: dict[tuple[str, str, int | None], dict[int, float]] = {}
    for score in trace.scores:
        candidate = _candidate(trace, score.candidate)
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

    Only an answer that departs nowhere from its format, was not cut, and gives the reference if one is known.
    """
    if trace.answer is None:
        return None, "there is no conclusion"
    if validate(trace.text, format_of(trace)):
        return None, "the answer departs from the stage format"
    if any(_candidate(trace, id).finish == "length" for id in trace.chosen):
        return None, "the answer ran out of tokens"
    question = trace.question
    if question.reference is not None:
        agreement = agrees(trace.answer, question.reference, question.options)
        if agreement is not True:
            return None, "the answer is wrong" if agreement is False else "words do not tell if it is right"
    return Turn(question.text, _standard(trace), question.options, response=trace.text.strip()), ""


def format_of(trace: Trace) -> StageFormat:
    """The stage format that the trace was made with. Raises ValueError if it cannot be one."""
    return StageFormat(
        tuple(Stage(tags.name, tags.open, tags.close) for tags in trace.format), trace.final or ""
    )


def _standard(trace: Trace) -> str | None:
    """The reference as records have it: an option's letter, where there are options."""
    reference, options = trace.question.reference, trace.question.options
    number = option_of(reference, options) if reference is not None else None
    return reference if number is None else ascii_uppercase[number]


def _why_not(verdict: Verdict | _Compared, trace: Trace, fmt: StageFormat, keep_wrong: bool) -> str | None:
    winner, loser = _entrants(verdict, trace)
    if verdict.decided_by == "same" or winner.text.strip() == loser.text.strip():
        return "both texts are the same"
    if verdict.decided_by == "seed":
        return "the judge chose neither"
    if verdict.decided_by == "tie":
        return "the scores are all the same"
    # Where both entrants fail the check, one of them has to go on, and no judge preferred it.
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
    """What the answer that the candidate is part of concludes; None where the search did not follow it."""
    text = _before(candidate, trace) + candidate.text
    if last_closed(text, fmt) == fmt.names.index(fmt.final) or candidate.stage == "answer":
        return parse(text, fmt).answer
    return trace.answer if candidate.id in trace.chosen else None


def _pair(verdict: Verdict | _Compared, trace: Trace) -> PreferencePair:
    winner, loser = _entrants(verdict, trace)
    prefix, other = _before(winner, trace), _before(loser, trace)
    if prefix != other:  # they go on from different candidates: from the last that both have
        ours, theirs = _path(winner, trace), _path(loser, trace)
        common = [a for a, b in zip(ours, theirs, strict=False) if a.id == b.id]
        shared = "".join(candidate.text for candidate in common)
        return PreferencePair(
            verdict.stage, shared, (prefix + winner.text)[len(shared) :], (other + loser.text)[len(shared) :],
            verdict.judge, verdict.decided_by,
        )  # fmt: skip
    return PreferencePair(verdict.stage, prefix, winner.text, loser.text, verdict.judge, verdict.decided_by)


def _entrants(verdict: Verdict | _Compared, trace: Trace) -> tuple[Candidate, Candidate]:
    """The winner and the loser."""
    loser = verdict.b if verdict.winner == verdict.a else verdict.a
    return _candidate(trace, verdict.winner), _candidate(trace, loser)


def _before(candidate: Candidate, trace: Trace) -> str:
    return "".join(earlier.text for earlier in _path(candidate, trace)[:-1])


def _path(candidate: Candidate, trace: Trace) -> list[Candidate]:
    """The candidates that lead to this one, and itself."""
    path = [candidate]
    while (parent := path[0].parent) is not None:
        if parent >= path[0].id:
            raise ValueError(f"candidate {path[0].id} goes on from {parent}, which came no earlier")
        path.insert(0, _candidate(trace, parent))
    return path


def _candidate(trace: Trace, id: int) -> Candidate:
    """Raises ValueError if there is none of this id."""
    if 0 <= id < len(trace.candidates) and trace.candidates[id].id == id:
        return trace.candidates[id]
    raise ValueError(f"there is no candidate {id} in the trace, or not at its place")
