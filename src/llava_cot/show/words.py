"""The words in which a trace is told, shared by every way of showing it.

Owns grouping into rounds and short descriptions. Knows no terminal and no HTML.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from llava_cot.stages import Stage, StageFormat, parse
from llava_cot.trace import Candidate, Trace, Usage, Verdict

# C0 and C1 control characters other than tab and newline, and the marks that reorder text: a model's
# words may hold escape sequences, and a terminal would obey them.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Round:
    """One round of a search: its candidates and the duels between them, in the order they happened."""

    number: int
    stage: str
    candidates: tuple[Candidate, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def parent(self) -> int | None:
        """The candidate that all of this round go on from, if there is one such."""
        parents = {candidate.parent for candidate in self.candidates}
        return parents.pop() if len(parents) == 1 else None


def rounds(trace: Trace) -> list[Round]:
    """The trace's candidates and verdicts by round, first round first."""
    numbers = sorted({candidate.round for candidate in trace.candidates})
    result = []
    for number in numbers:
        candidates = tuple(c for c in trace.candidates if c.round == number)
        verdicts = tuple(v for v in trace.verdicts if v.round == number)
        result.append(Round(number, candidates[0].stage, candidates, verdicts))
    return result


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
    """How many candidates and duels a round had, and what it went on from."""
    parts = [plural(len(part.candidates), "candidate")]
    if part.verdicts:
        parts.append(plural(len(part.verdicts), "duel"))
    if part.parent is not None:
        parts.append(f"after #{part.parent}")
    return ", ".join(parts)


def final_stage(trace: Trace) -> str | None:
    """The name of the stage that holds the answer, None if the trace has no stages."""
    return trace.final or (trace.format[-1].name if trace.format else None)


def facts(candidate: Candidate, trace: Trace) -> list[str]:
    """What a whole answer says, its size, mean log-probability and, if it was cut or ended itself, that."""
    said = []
    if candidate.stage == "answer":
        fmt = StageFormat(
            tuple(Stage(tags.name, tags.open, tags.close) for tags in trace.format), final_stage(trace) or ""
        )
        answer = parse(candidate.text, fmt).answer
        if answer is not None or candidate.stage not in fmt.names:
            said = [f"answer {shortened(answer or 'none')}"]
    parts = [*said, plural(candidate.completion_tokens, "token")]
    if candidate.logprob is not None and candidate.completion_tokens:
        parts.append(f"log-prob. {candidate.logprob / candidate.completion_tokens:.2f} a token")
    ends = {"stop": [], "eos": ["the model ended here"], "length": ["ran out of tokens"]}
    return parts + ends[candidate.finish]


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
