"""Having a judge look at the nodes of a pool: by the scores of all candidates, or by tournaments of some.

A judge whose duels follow from its scores scores each text once, and which of any N it would keep is
computed. Any other judge plays a tournament for each N, by the code of the search itself, between random
candidates.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

from llava_cot.core.question import Question
from llava_cot.core.trace import Candidate, Trace, Usage
from llava_cot.evaluation.forecast.candidate_tree import PoolNode
from llava_cot.evaluation.forecast.winners import NodeJudgment
from llava_cot.models.base import Continuation, Model, seed_of
from llava_cot.search.judges.base import Judge
from llava_cot.search.request import Request
from llava_cot.search.resources import Resources
from llava_cot.search.search import Search, text_of


def decides_by_scores(judge: Judge) -> bool:
    """Whether the judge's duels follow from its scores."""
    return judge.can_score and type(judge).prefer is Judge.prefer and type(judge).check is Judge.check


async def judge_node(
    node: PoolNode,
    judge: Judge,
    request: Request,
    model: Model,
    question: Question,
    resources: Resources,
    ns: Sequence[int],
) -> NodeJudgment:
    """Have a judge look at a node. Everything random depends on the request's seed and the node's texts.

    Args:
        node: The candidates.
        judge: The judge.
        request: That of a search with this judge.
        model: The model that the candidates are from.
        question: Their question.
        resources: As for the search.
        ns: The numbers of candidates to choose among.

    Raises:
        ModelError: The judge fails.
    """
    if len(node.groups) == 1:  # nothing is ever compared
        free = {n: Usage() for n in (1, *ns)}
        if not decides_by_scores(judge):
            return NodeJudgment(None, dict.fromkeys(ns, 0), (), free)
        return NodeJudgment((0.0,) * len(node.candidates), spent=free, probability=judge.probability)
    context = text_of(node.path)
    seed = seed_of(request.sampling.seed, node.stage, context)
    if decides_by_scores(judge):
        firsts = [members[0] for members in node.groups.values()]
        found = await asyncio.gather(
            *(
                judge.score(
                    question, node.stage, context, node.candidates[i].candidate, seed=seed_of(seed, i)
                )
                for i in firsts
            )
        )
        by_text = {node.candidates[i].text: one for i, one in zip(firsts, found, strict=True)}
        total = sum((one.usage for one in found), Usage())
        scores = tuple(by_text[one.text].value for one in node.candidates)
        return NodeJudgment(scores, spent={1: _divided(total, len(found))}, probability=judge.probability)
    rng = random.Random(seed)
    chosen = {n: rng.sample(range(len(node.candidates)), n) for n in ns}
    played = await asyncio.gather(
        *(
            _tournament(
                node,
                subset,
                Search(replace(request, n=n).with_seed(seed_of(seed, n)), model, question, judge, resources),
            )
            for n, subset in chosen.items()
        )
    )
    winners, duels, spent = {}, list[tuple[int, int, float]](), {}
    for (n, subset), (trace, winner) in zip(chosen.items(), played, strict=True):
        first = len(trace.candidates) - n
        winners[n] = subset[winner - first]
        duels += _random_duels(trace, first, subset)
        sampled = sum(one.completion_tokens for one in trace.candidates)
        spent[n] = Usage(
            prompt_tokens=trace.usage.prompt_tokens,
            completion_tokens=trace.usage.completion_tokens - sampled,
            model_calls=trace.usage.model_calls - len(trace.candidates),
            usd=trace.usage.usd,
        )
    return NodeJudgment(None, winners, tuple(duels), spent)


async def _tournament(node: PoolNode, subset: Sequence[int], search: Search) -> tuple[Trace, int]:
    """Play a tournament between some candidates, which are recorded without a cost of reading."""
    for one in node.path:
        search.start(one.stage)
        search.keep(search.add(_continuation(one)))
    search.start(node.stage)
    candidates = [search.add(_continuation(node.candidates[i].candidate)) for i in subset]
    winner = await search.best(candidates)
    return search.so_far(), winner.id


def _continuation(one: Candidate) -> Continuation:
    return Continuation(one.text, one.tokens, one.logprob, one.finish, 0, one.completion_tokens)


def _random_duels(trace: Trace, first: int, subset: Sequence[int]) -> list[tuple[int, int, float]]:
    """The duels of two candidates that had not played before: later ones are between winners, not random."""
    seen: set[int] = set()
    found = []
    for one in trace.verdicts:
        if one.a not in seen and one.b not in seen and one.decided_by != "same":
            share = 0.5 if one.decided_by == "seed" else float(one.winner == one.a)
            found.append((subset[one.a - first], subset[one.b - first], share))
        seen |= {one.a, one.b}
    return found


def _divided(usage: Usage, count: int) -> Usage:
    """The mean of a cost; counts are rounded up."""
    return Usage(
        prompt_tokens=-(-usage.prompt_tokens // count),
        completion_tokens=-(-usage.completion_tokens // count),
        model_calls=-(-usage.model_calls // count),
        usd=None if usage.usd is None else usage.usd / count,
    )
