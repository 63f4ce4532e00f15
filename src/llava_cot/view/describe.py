"""Short descriptions of a trace and its parts, the same in the terminal and on pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llava_cot.core.stages import Stage, StageFormat, parse
from llava_cot.core.trace import AnswerWarning, Candidate, Score, Trace, Usage, Verdict
from llava_cot.core.wording import one_line, plural, shortened


@dataclass(frozen=True)
class SearchRound:
    """One round of a search: its candidates, verdicts and scores, in the order in which they were made."""

    number: int
    stage: str
    candidates: tuple[Candidate, ...]
    verdicts: tuple[Verdict, ...]
    scores: tuple[Score, ...] = ()

    @property
    def parent(self) -> int | None:
        """The candidate that all candidates of this round continue, if it is one and the same."""
        return next(iter(self.groups)) if len(self.groups) == 1 else None

    @property
    def groups(self) -> dict[int | None, tuple[Candidate, ...]]:
        """The candidates by parent; None stands for the question itself."""
        parents = dict.fromkeys(candidate.parent for candidate in self.candidates)
        return {parent: tuple(c for c in self.candidates if c.parent == parent) for parent in parents}

    @property
    def separate_scores(self) -> tuple[Score, ...]:
        """The scores to list apart: those with a judge's reply, and those of earlier rounds' candidates."""
        own = {candidate.id for candidate in self.candidates}
        return tuple(score for score in self.scores if score.reply or score.candidate not in own)


def search_rounds(trace: Trace) -> list[SearchRound]:
    """Group the trace's candidates, verdicts and scores by round, first round first."""
    events: list[Candidate | Verdict | Score] = [*trace.scores, *trace.verdicts, *trace.candidates]
    stages = {event.round: event.stage for event in events}
    result = []
    for number, stage in sorted(stages.items()):
        candidates = tuple(c for c in trace.candidates if c.round == number)
        verdicts = tuple(v for v in trace.verdicts if v.round == number)
        scores = tuple(s for s in trace.scores if s.round == number)
        result.append(SearchRound(number, stage, candidates, verdicts, scores))
    return result


def continued_candidates(trace: Trace) -> set[int]:
    """The ids of the candidates that other candidates continue."""
    return {candidate.parent for candidate in trace.candidates if candidate.parent is not None}


def final_stage(trace: Trace) -> str | None:
    """The name of the stage that holds the answer; None if the trace has no stages."""
    return trace.final or (trace.format[-1].name if trace.format else None)


def describe_request(trace: Trace) -> str:
    """How the question was answered: models, method, judge, budget, sampling and seed."""
    parts = [f"model {one_line(trace.model)}"]
    if trace.reasoner is not None:
        parts.append(f"reasoner {one_line(trace.reasoner)}")
    parts.append(f"{trace.method} -n {trace.n}")
    if trace.judge is not None:
        other = trace.judge_model not in (None, trace.model)
        parts.append(f"judge {trace.judge}" + (f" of {one_line(trace.judge_model or '')}" if other else ""))
    if trace.budget is not None:
        parts.append(f"budget {plural(trace.budget, 'token')}")
    sampling = f"temperature {trace.temperature:g}, top-p {trace.top_p:g}"
    sampling += "".join(f", {name.replace('_', '-')} {value:g}" for name, value in trace.sampling.items())
    return " · ".join([*parts, sampling, f"seed {trace.seed}"])


def describe_usage(usage: Usage) -> str:
    """What an answer cost, in one line."""
    parts = [
        plural(usage.model_calls, "model call"),
        f"{plural(usage.prompt_tokens, 'token')} read",
        f"{usage.completion_tokens:,} written",
        f"{usage.seconds:.1f} s",
    ]
    if usage.usd is not None:
        parts.append(f"${usage.usd:.4f}")
    return " · ".join(parts)


def describe_warning(warning: AnswerWarning) -> str:
    """A warning as one line of the terminal."""
    return f"warning: {one_line(warning.text)}"


def describe_round(part: SearchRound) -> str:
    """The numbers of candidates, duels and scores of a round, and the candidate that it continues."""
    counts = describe_counts(part.candidates, part.verdicts, part.scores)
    return counts if part.parent is None else f"{counts}, after #{part.parent}"


def describe_counts(
    candidates: Sequence[Candidate], verdicts: Sequence[Verdict], scores: Sequence[Score]
) -> str:
    """How many candidates, duels and scores there are; nothing of those that there are none of."""
    found = ((candidates, "candidate"), (verdicts, "duel"), (scores, "score"))
    return ", ".join(plural(len(some), noun) for some, noun in found if some)


def candidate_facts(candidate: Candidate, trace: Trace) -> list[str]:
    """A candidate's scores, its answer if it is a whole one, its length, log-probability and end."""
    scores = candidate_scores(candidate, trace.scores)
    answers: list[str] = []
    if candidate.stage == "answer":
        fmt = StageFormat(
            tuple(Stage(tags.name, tags.open, tags.close) for tags in trace.format), final_stage(trace) or ""
        )
        answer = parse(candidate.text, fmt).answer
        if answer is not None or candidate.stage not in fmt.names:
            answers = [f"answer {shortened(answer or 'none')}"]
    parts = [*scores, *answers, plural(candidate.completion_tokens, "token")]
    if candidate.logprob is not None and candidate.completion_tokens:
        parts.append(f"log-prob. {candidate.logprob / candidate.completion_tokens:.2f} a token")
    ends = {"stop": [], "eos": ["the model ended here"], "length": ["ran out of tokens"]}
    return parts + ends[candidate.finish]


def candidate_scores(candidate: Candidate, scores: Sequence[Score]) -> list[str]:
    """A candidate's scores in words, each once."""
    own = [f"score {format_score(score.value)}" for score in scores if score.candidate == candidate.id]
    return list(dict.fromkeys(own))


def format_score(score: float) -> str:
    """A score with three decimals; its unit depends on the judge."""
    return f"{score:.3f}"


def losing_candidate(verdict: Verdict) -> int:
    """The id of the candidate that lost a duel."""
    return verdict.b if verdict.winner == verdict.a else verdict.a


def verdict_reason(verdict: Verdict) -> str:
    """What decided a duel, in a few words."""
    reasons = {
        "choice": f"the judge ({verdict.judge}) chose it",
        "check": f"#{losing_candidate(verdict)} was found incorrect",
        "same": "both texts are the same",
        "seed": "the judge chose neither, the seed did",
    }
    reason = reasons[verdict.decided_by]
    if verdict.scores is None:
        return reason
    scores = sorted(verdict.scores, reverse=True)
    return f"{reason}, {scores[0]:.2f} to {scores[1]:.2f}"
