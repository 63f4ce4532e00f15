"""Warnings about an answer: the search did less than was requested, or the model does not know the subject.

They are decided here, from the finished trace, and only shown elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from llava_cot.core.stages import SENTENCE
from llava_cot.core.trace import AnswerWarning, Candidate, Trace
from llava_cot.core.wording import plural

_WITHOUT_STAGES = "direct"  # the method that wants none


def find_warnings(
    trace: Trace, unfamiliar: str | None = None, *, partial: bool = False
) -> Iterator[AnswerWarning]:
    """Yield the warnings about a finished search.

    Args:
        trace: The search.
        unfamiliar: Why the model knows nothing of the subject, if so.
        partial: The method itself put the answer into stages, and leaves others out on purpose.
    """
    if unfamiliar is not None:
        yield AnswerWarning(kind="unfamiliar", text=unfamiliar)
    yield from _stages(trace, partial)
    yield from _cut(trace)
    yield from _duels(trace)
    yield from _comparisons(trace)
    yield from _whole(trace)


def was_cut(trace: Trace) -> bool:
    """Whether a part of the answer ran out of tokens."""
    chosen = _chosen(trace)
    if any(candidate.finish == "length" for candidate in chosen):
        return True
    # sentence-beam goes on until the model ends, the last stage is closed, or no tokens are left.
    sentences = bool(chosen) and chosen[-1].stage == SENTENCE and chosen[-1].finish == "stop"
    return sentences and trace.format[-1].close.lower() not in trace.text.lower()


def _chosen(trace: Trace) -> list[Candidate]:
    chosen = {*trace.chosen}
    return [candidate for candidate in trace.candidates if candidate.id in chosen]


def _stages(trace: Trace, partial: bool) -> Iterator[AnswerWarning]:
    absent = [name for name, text in trace.stages.items() if text is None]
    if not trace.text.strip():
        yield AnswerWarning(kind="no-stages", text="the answer is empty")
    elif len(absent) == len(trace.stages):
        if trace.method == _WITHOUT_STAGES:
            return
        text = f"none of the stages {', '.join(absent)} was found: the whole text is taken for the answer"
        if trace.n > 1:
            rounds = len({candidate.round for candidate in trace.candidates})
            text += f", after {plural(rounds, 'round')} of search"
        if trace.staging == "trained":
            text += "; --stages prompted asks the model for each, --format names others"
        yield AnswerWarning(kind="no-stages", text=text)
    elif trace.answer is None:
        final = trace.final or absent[-1]
        state = "absent" if final in absent else "empty"
        others = [] if partial else [name for name in absent if name != final]
        also = f" (also absent: {', '.join(others)})" if others else ""
        yield AnswerWarning(kind="absent-stages", text=f"the {final} is {state}, so there is no answer{also}")
    elif absent and not partial:
        yield AnswerWarning(kind="absent-stages", text=f"absent from the answer: {', '.join(absent)}")


def _cut(trace: Trace) -> Iterator[AnswerWarning]:
    cut = [candidate for candidate in trace.candidates if candidate.finish == "length"]
    if not cut and not was_cut(trace):
        return
    budget = "" if trace.budget is None else f", budget {trace.budget:,}"
    limit = f"the token limit (max_tokens {trace.max_tokens:,}{budget})"
    if was_cut(trace):
        stages = dict.fromkeys(one.stage for one in _chosen(trace) if one.finish == "length")
        named = bool(stages) and all(trace.stages.get(stage) is not None for stage in stages)
        what = " and ".join(f"the {stage}" for stage in stages) if named else "the answer"
        verb = "were" if named and len(stages) > 1 else "was"
        yield AnswerWarning(kind="cut", text=f"{what} {verb} cut off at {limit}")
    else:
        count = f"{len(cut):,} of {plural(len(trace.candidates), 'candidate')}"
        yield AnswerWarning(kind="cut", text=f"{count} ran into {limit}; none of them is in the answer")


def _duels(trace: Trace) -> Iterator[AnswerWarning]:
    """Duels that a model as judge left open. (A judge without a model, and equal scores, call a tie.)"""
    played = [v for v in trace.verdicts if v.decided_by in ("choice", "seed") and v.scores is None]
    undecided = sum(verdict.decided_by == "seed" for verdict in played)
    if undecided and trace.judge_model is not None:
        text = (
            f"the judge {trace.judge} chose neither candidate in {undecided:,} of "
            f"{plural(len(played), 'duel')}, so chance decided"
        )
        yield AnswerWarning(kind="no-choice", text=text)


def _whole(trace: Trace) -> Iterator[AnswerWarning]:
    """A search over the thinking that was one over whole answers."""
    if trace.staging != "thinking" or trace.n == 1:
        return
    thinking, answer = trace.format
    first = [one for one in trace.candidates if one.round == 0 and one.stage in (SENTENCE, thinking.name)]
    if any(one.text.endswith(answer.close) for one in first):
        text = f"{trace.model} does not go on inside its thinking: whole answers were searched"
        yield AnswerWarning(kind="whole-answers", text=text)


def _comparisons(trace: Trace) -> Iterator[AnswerWarning]:
    rounds: defaultdict[int, list[str]] = defaultdict(list)
    for candidate in trace.candidates:
        rounds[candidate.round].append(candidate.text)
    if trace.n == 1 or not rounds:
        return
    if trace.budget is not None and all(len(texts) == 1 for texts in rounds.values()):
        text = (
            f"the budget of {plural(trace.budget, 'token')} paid for one candidate a round: nothing compared"
        )
        yield AnswerWarning(kind="not-compared", text=text)
    elif trace.temperature == 0 and all(len({*texts}) == 1 for texts in rounds.values()):
        text = "at temperature 0 all candidates of a round are the same: nothing was compared"
        yield AnswerWarning(kind="not-compared", text=text)
