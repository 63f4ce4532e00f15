"""The pool tournament of the paper: which of N candidates the judge keeps.

Two candidates are popped from the pool at random, the one popped first is shown as response 1, the
winner goes back, N - 1 games (arXiv 2411.10440, section 3.2). The draw does not depend on who wins, so
the whole tree of games is drawn first, and a game is played as soon as its two entrants are known:
the same games, fewer rounds of waiting.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from llava_cot.core.trace import Candidate, Check, Verdict
from llava_cot.search.judges.base import Judge, JudgeScore, by_scores

if TYPE_CHECKING:
    from llava_cot.search.search import Search


@dataclass(frozen=True)
class Game:
    """A game of a draw for n entrants: position k < n is entrant k, else the winner of game k - n.

    `seed` is the judge's; `coin` (0 or 1) settles the game if the judge does not.
    """

    first: int
    second: int
    seed: int
    coin: int


def draw(n: int, rng: random.Random) -> list[Game]:
    """The n - 1 games, each after those whose winners play in it."""
    pool = list(range(n))
    games: list[Game] = []
    while len(pool) > 1:
        first = pool.pop(rng.randrange(len(pool)))
        second = pool.pop(rng.randrange(len(pool)))
        pool.append(n + len(games))
        games.append(Game(first, second, rng.getrandbits(63), rng.getrandbits(1)))
    return games


async def tournament(search: Search, candidates: Sequence[Candidate]) -> Candidate:
    """The winner among this round's candidates; verdicts are recorded in the order of the draw."""
    if len(candidates) == 1:
        return candidates[0]
    games = draw(len(candidates), search.rng)
    checks = await _check(search, candidates)
    scores = await _score(search, candidates, games)
    played: list[asyncio.Task[tuple[Verdict, Candidate]]] = []

    async def entrant(position: int) -> Candidate:
        if position < len(candidates):
            return candidates[position]
        return (await played[position - len(candidates)])[1]

    async def play(game: Game) -> tuple[Verdict, Candidate]:
        a, b = await entrant(game.first), await entrant(game.second)
        return await _duel(search, a, b, checks, scores, game)

    played += [asyncio.create_task(play(game)) for game in games]
    try:
        for task in played:
            verdict, winner = await task
            search.verdict(verdict)
    finally:
        for task in played:
            task.cancel()
        await asyncio.gather(*played, return_exceptions=True)
    return winner


async def _check(search: Search, candidates: Sequence[Candidate]) -> dict[int, Check]:
    """The judge's opinion of each candidate alone, by id: each text once, all at the same time."""
    first: dict[str, tuple[Candidate, int]] = {}
    for candidate in candidates:
        first.setdefault(_text(candidate), (candidate, search.rng.getrandbits(63)))
    if len(first) == 1:
        return {}
    opinions = await asyncio.gather(
        *(
            search.judge.check(search.question, search.stage, search.text, candidate, seed=seed)
            for candidate, seed in first.values()
        )
    )
    by_text = dict(zip(first, opinions, strict=True))
    for opinion in opinions:
        if opinion is not None:
            search.spend(opinion.usage)
    return {
        c.id: Check(candidate=c.id, correct=opinion.correct, reply=opinion.reply)
        for c in candidates
        if (opinion := by_text[_text(c)]) is not None
    }


async def _score(
    search: Search, candidates: Sequence[Candidate], games: Sequence[Game]
) -> dict[str, JudgeScore]:
    """The scores by text, each once and all at the same time, where duels follow from scores."""
    first: dict[str, Candidate] = {}
    for candidate in candidates:
        first.setdefault(_text(candidate), candidate)
    if len(first) == 1 or getattr(search.judge.prefer, "__func__", None) is not Judge.prefer:
        return {}
    seeds = {place: game.seed for game in games for place in (game.first, game.second)}
    places = {candidate.id: place for place, candidate in enumerate(candidates)}
    scores = await asyncio.gather(
        *(
            search.judge.score(
                search.question, search.stage, search.text, candidate, seed=seeds[places[candidate.id]]
            )
            for candidate in first.values()
        )
    )
    for score in scores:
        search.spend(score.usage)
    return dict(zip(first, scores, strict=True))


async def _duel(
    search: Search,
    a: Candidate,
    b: Candidate,
    checks: dict[int, Check],
    known: dict[str, JudgeScore],
    game: Game,
) -> tuple[Verdict, Candidate]:
    seen = tuple(checks[c.id] for c in (a, b) if c.id in checks)
    flagged = {check.candidate for check in seen if check.correct is False}
    decided_by: Literal["choice", "check", "same", "seed"]
    reply, scores = "", None
    if _text(a) == _text(b):
        winner, decided_by, seen = a, "same", ()
    elif a.id in flagged:
        winner, decided_by = b, "check"
    elif b.id in flagged:
        winner, decided_by = a, "check"
    else:
        if known:
            preference = by_scores(known[_text(a)], known[_text(b)])
        else:
            preference = await search.judge.prefer(
                search.question, search.stage, search.text, a, b, seed=game.seed
            )
            search.spend(preference.usage)
        reply, scores = preference.reply, preference.scores
        winner = (a, b)[game.coin if preference.choice is None else preference.choice - 1]
        decided_by = "seed" if preference.choice is None else "choice"
    verdict = Verdict(
        a=a.id,
        b=b.id,
        winner=winner.id,
        round=search.round,
        stage=search.stage,
        judge=search.judge.name,
        decided_by=decided_by,
        reply=reply,
        scores=scores,
        checks=seen,
    )
    return verdict, winner


def _text(candidate: Candidate) -> str:
    return candidate.text.strip()
