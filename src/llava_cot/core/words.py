"""The words in which a trace is told, shared by every way of showing it.

Owns grouping into rounds and short descriptions. Knows no terminal and no HTML.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from llava_cot.core.stages import Stage, StageFormat, parse
from llava_cot.core.trace import Candidate, Score, Trace, Usage, Verdict

# C0 and C1 control characters other than tab and newline, and the marks that reorder text: a model's
# words may hold escape sequences, and a terminal would obey them.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Round:
    """One round of a search: its candidates, the duels and the scores, in the order they happened."""

    number: int
    stage: str
    candidates: tuple[Candidate, ...]
    verdicts: tuple[Verdict, ...]
    scores: tuple[Score, ...] = ()

    @property
    def parent(self) -> int | None:
        """The candidate that all of this round go on from, if there is one such."""
        return next(iter(self.groups)) if len(self.groups) == 1 else None

    @property
    def groups(self) -> dict[int | None, tuple[Candidate, ...]]:
        """The candidates by what they go on from, None for the question itself."""
        parents = dict.fromkeys(candidate.parent for candidate in self.candidates)
        return {parent: tuple(c for c in self.candidates if c.parent == parent) for parent in parents}

    @property
    def told(self) -> tuple[Score, ...]:
        """The scores of which more is to be said than beside their candidates: words, or of earlier ones."""
        here = {candidate.id for candidate in self.candidates}
        return tuple(score for score in self.scores if score.reply or score.candidate not in here)


def rounds(trace: Trace) -> list[Round]:
    """The trace's candidates, verdicts and scores by round, first round first."""
    happened: list[Candidate | Verdict | Score] = [*trace.scores, *trace.verdicts, *trace.candidates]
    stages = {one.round: one.stage for one in happened}
    result = []
    for number, stage in sorted(stages.items()):
        candidates = tuple(c for c in trace.candidates if c.round == number)
        verdicts = tuple(v for v in trace.verdicts if v.round == number)
        scores = tuple(s for s in trace.scores if s.round == number)
        result.append(Round(number, stage, candidates, verdicts, scores))
    return result


def went_on(trace: Trace) -> set[int]:
    """The candidates that others go on from."""
    return {candidate.parent for candidate in trace.candidates if candidate.parent is not None}


def printable(text: str) -> str:
    """Text without the control characters that would steer a terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Printable text with all its white space collapsed."""
    return " ".join(printable(text).split())


def shortened(text: str, most: int = 40) -> str:
    """One line of at most so many characters."""
    line = one_line(text)
    return line if len(line) <= most else line[: most - 3] + "..."


def plural(count: int, noun: str) -> str:
    """A count with its noun, as in "1 duel" or "1,234 tokens"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def how(trace: Trace) -> str:
    """How the question was answered: the model or two, the method, its judge and its seed."""
    parts = [f"model {one_line(trace.model)}"]
    if trace.reasoner is not None:
        parts.append(f"reasoner {one_line(trace.reasoner)}")
    parts.append(f"{trace.method} -n {trace.n}")
    if trace.judge is not None:
        by = trace.judge_model not in (None, trace.model)
        parts.append(f"judge {trace.judge}" + (f" of {one_line(trace.judge_model or '')}" if by else ""))
    if trace.budget is not None:
        parts.append(f"budget {plural(trace.budget, 'token')}")
    settings = f"temperature {trace.temperature:g}, top-p {trace.top_p:g}"
    return " · ".join([*parts, settings, f"seed {trace.seed}"])


def cost(usage: Usage) -> str:
    """Usage in one line."""
    parts = [
        plural(usage.model_calls, "model call"),
        f"{plural(usage.prompt_tokens, 'token')} read",
        f"{usage.completion_tokens:,} written",
        f"{usage.seconds:.1f} s",
    ]
    if usage.usd is not None:
        parts.append(f"${usage.usd:.4f}")
    return " · ".join(parts)


def size(part: Round) -> str:
    """How many candidates, duels and scores a round had, and what it went on from."""
    counts = ((len(part.candidates), "candidate"), (len(part.verdicts), "duel"), (len(part.scores), "score"))
    parts = [plural(count, noun) for count, noun in counts if count]
    if part.parent is not None:
        parts.append(f"after #{part.parent}")
    return ", ".join(parts)


def final_stage(trace: Trace) -> str | None:
    """The name of the stage that holds the answer, None if the trace has no stages."""
    return trace.final or (trace.format[-1].name if trace.format else None)


def facts(candidate: Candidate, trace: Trace) -> list[str]:
    """How it was scored, what a whole answer says, its size and mean log-probability, and how it ended."""
    found = dict.fromkeys(
        f"score {amount(score.value)}" for score in trace.scores if score.candidate == candidate.id
    )
    said: list[str] = []
    if candidate.stage == "answer":
        fmt = StageFormat(
            tuple(Stage(tags.name, tags.open, tags.close) for tags in trace.format), final_stage(trace) or ""
        )
        answer = parse(candidate.text, fmt).answer
        if answer is not None or candidate.stage not in fmt.names:
            said = [f"answer {shortened(answer or 'none')}"]
    parts = [*found, *said, plural(candidate.completion_tokens, "token")]
    if candidate.logprob is not None and candidate.completion_tokens:
        parts.append(f"log-prob. {candidate.logprob / candidate.completion_tokens:.2f} a token")
    ends = {"stop": [], "eos": ["the model ended here"], "length": ["ran out of tokens"]}
    return parts + ends[candidate.finish]


def amount(score: float) -> str:
    """A score, whose unit is its judge's own: as many digits as tell scores apart."""
    return f"{score:.3f}"


def loser(verdict: Verdict) -> int:
    """The candidate that lost a duel."""
    return verdict.b if verdict.winner == verdict.a else verdict.a


def why(verdict: Verdict) -> str:
    """What settled a duel, in a few words."""
    reasons = {
        "choice": f"the judge ({verdict.judge}) chose it",
        "check": f"#{loser(verdict)} was found incorrect",
        "same": "both texts are the same",
        "seed": "the judge chose neither, the seed did",
    }
    reason = reasons[verdict.decided_by]
    if verdict.scores is None:
        return reason
    scores = sorted(verdict.scores, reverse=True)
    return f"{reason}, {scores[0]:.2f} to {scores[1]:.2f}"
