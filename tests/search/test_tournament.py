import asyncio
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import QUESTION, Referee, continuation, new_search

from llava_cot.core.question import Question
from llava_cot.core.trace import Candidate, Trace
from llava_cot.errors import ModelError
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.judges.base import Opinion, Preference
from llava_cot.search.request import make_request
from llava_cot.search.search import Event, Search, VerdictGiven
from llava_cot.search.tournament import draw


async def play(
    texts: list[str], judge: Referee, seed: int = 0, events: list[Event] | None = None
) -> tuple[Candidate, Trace]:
    search = new_search(events.append if events is not None else None, len(texts), judge=judge, seed=seed)
    candidates = [search.add(continuation(text)) for text in texts]
    winner = await search.best(candidates)
    return winner, search.finish()


def worth(text: str) -> float:
    return float(text)


def sequential(n: int, rng: random.Random, better: list[float]) -> tuple[int, list[tuple[int, int, int]]]:
    """The paper's algorithm, one game after another, with the draws that `draw` makes."""
    pool = list(range(n))
    games = []
    while len(pool) > 1:
        first = pool.pop(rng.randrange(len(pool)))
        second = pool.pop(rng.randrange(len(pool)))
        rng.getrandbits(63)
        coin = rng.getrandbits(1)
        x, y = better[first], better[second]
        winner = first if x > y else second if y > x else (first, second)[coin]
        games.append((first, second, winner))
        pool.append(winner)
    return pool[0], games


@given(values=st.lists(st.integers(0, 5), min_size=2, max_size=12), seed=st.integers(0, 99))
def test_the_tree_is_the_sequential_tournament(values: list[int], seed: int) -> None:
    # The number before the point is the worth, that after it tells equals apart.
    texts = [f"{value}.{i}" for i, value in enumerate(values)]
    winner, trace = asyncio.run(play(texts, Referee(lambda text: float(text.split(".")[0])), seed))
    best, games = sequential(len(values), random.Random(seed), [float(v) for v in values])
    assert winner.id == best
    assert [(v.a, v.b, v.winner) for v in trace.verdicts] == games


@given(order=st.permutations(range(7)), seed=st.integers(0, 99))
def test_the_best_always_wins_under_a_total_order(order: list[int], seed: int) -> None:
    judge = Referee(worth)
    winner, trace = asyncio.run(play([str(k) for k in order], judge, seed))
    assert winner.text == "6"
    assert len(judge.duels) == len(trace.verdicts) == 6
    assert {v.decided_by for v in trace.verdicts} == {"choice"}
    assert Counter(v.winner for v in trace.verdicts)[winner.id] >= 1
    losers = [v.a if v.winner == v.b else v.b for v in trace.verdicts]
    assert sorted([*losers, winner.id]) == list(range(7))


def test_the_first_popped_is_response_1_and_pairs_are_drawn_evenly() -> None:
    pairs = Counter((game.first, game.second) for s in range(3000) for game in draw(3, random.Random(s))[:1])
    assert set(pairs) == {(a, b) for a in range(3) for b in range(3) if a != b}
    assert min(pairs.values()) > 400


def test_a_drawn_tree_has_each_entrant_once_and_games_in_playable_order() -> None:
    for n in range(1, 20):
        games = draw(n, random.Random(n))
        assert len(games) == n - 1
        played = [position for game in games for position in (game.first, game.second)]
        assert sorted(played) == list(range(2 * n - 2))
        assert all(max(game.first, game.second) < n + k for k, game in enumerate(games))


async def test_the_judge_is_shown_the_pair_in_the_recorded_order() -> None:
    judge = Referee(worth)
    _, trace = await play(["3", "1", "2"], judge, seed=5)
    texts = [c.text for c in trace.candidates]
    assert [(a, b) for _, _, a, b in judge.duels] == [(texts[v.a], texts[v.b]) for v in trace.verdicts]
    assert {(stage, context) for stage, context, _, _ in judge.duels} == {("reasoning", "")}
    assert all(v.scores == (worth(texts[v.a]), worth(texts[v.b])) for v in trace.verdicts)
    assert all(
        (v.reply, v.judge, v.stage, v.round) == ("said", "referee", "reasoning", 0) for v in trace.verdicts
    )


async def test_equal_texts_are_not_judged() -> None:
    judge = Referee(worth, correct=lambda text: True)
    winner, trace = await play(["7", " 7", "7\n"], judge)
    assert judge.duels == judge.checked == []
    assert [(v.decided_by, v.winner, v.checks) for v in trace.verdicts] == [
        ("same", v.a, ()) for v in trace.verdicts
    ]
    assert len(trace.verdicts) == 2
    assert winner.id == trace.verdicts[-1].a
    assert trace.usage.model_calls == 3


async def test_one_candidate_needs_no_judge() -> None:
    search = Search(make_request("stage-beam"), ScriptedModel({}), QUESTION)
    search.start("reasoning")
    only = search.add(continuation("x"))
    assert await search.best([only]) is only
    with pytest.raises(ValueError, match="declares no judge"):
        await search.best([only, only])


async def test_no_choice_is_settled_by_the_seed_and_says_so() -> None:
    winners = set()
    for seed in range(30):
        winner, trace = await play(["a", "b"], Referee(lambda text: 0.0), seed)
        [verdict] = trace.verdicts
        assert (verdict.decided_by, verdict.reply) == ("seed", "said")
        again, _ = await play(["a", "b"], Referee(lambda text: 0.0), seed)
        assert again.text == winner.text
        winners.add((verdict.a == 0, verdict.winner == verdict.a))
    assert len(winners) == 4


@pytest.mark.parametrize(
    ("wrong", "elected", "decided_by", "duels"),
    [
        ("12", "second", "check", 0),
        ("1", "second", "check", 0),
        ("2", "first", "check", 0),
        ("", "second", "choice", 1),
    ],
)
async def test_a_failed_check_loses(wrong: str, elected: str, decided_by: str, duels: int) -> None:
    """The first flagged: the second wins; else the second flagged: the first wins; else they are compared."""
    game = draw(2, random.Random(0))[0]
    texts = ["", ""]
    texts[game.first], texts[game.second] = "1", "2"
    judge = Referee(worth, correct=lambda text: text not in wrong)
    winner, trace = await play(texts, judge)
    [verdict] = trace.verdicts
    assert winner.text == {"first": "1", "second": "2"}[elected]
    assert (verdict.decided_by, len(judge.duels)) == (decided_by, duels)
    assert [(c.candidate, c.correct, c.reply) for c in verdict.checks] == [
        (verdict.a, "1" not in wrong, "looked"),
        (verdict.b, "2" not in wrong, "looked"),
    ]


async def test_a_check_without_a_verdict_flags_nothing() -> None:
    judge = Referee(worth, correct=lambda text: None)
    winner, trace = await play(["1", "2"], judge)
    assert (winner.text, trace.verdicts[0].decided_by) == ("2", "choice")


async def test_each_text_is_checked_once_however_many_games_it_plays() -> None:
    judge = Referee(worth, correct=lambda text: text != "9")
    winner, trace = await play(["3", "9", "1", "3", "2", "9"], judge)
    assert winner.text == "3"
    assert sorted(judge.checked) == ["1", "2", "3", "9"]
    assert len(trace.verdicts) == 5
    assert trace.usage.model_calls == 6 + 4 + len(judge.duels)
    assert trace.usage.prompt_tokens == 6 * 10 + 4 * 7
    assert trace.usage.completion_tokens == 6 * 3 + len(judge.duels) * 5


async def test_a_noisy_judge_favours_the_better_but_not_always() -> None:
    noise = random.Random(1)
    wins: Counter[str] = Counter()
    for seed in range(300):
        judge = Referee(lambda text: float(text) + noise.gauss(0, 2))
        wins[(await play(["0", "1", "2", "3"], judge, seed))[0].text] += 1
    assert wins["3"] > wins["2"] > wins["0"] > 0


async def test_games_whose_entrants_are_known_are_played_together() -> None:
    class Busy(Referee):
        playing = 0
        most = 0

        async def prefer(
            self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
        ) -> Preference:
            self.playing += 1
            self.most = max(self.most, self.playing)
            for _ in range(int(a.text) % 4 + 1):
                await asyncio.sleep(0)
            self.playing -= 1
            return await super().prefer(question, stage, context, a, b, seed=seed)

    busy = Busy(worth)
    events: list[Event] = []
    _, trace = await play([str(k) for k in range(16)], busy, 1, events)
    calm = await play([str(k) for k in range(16)], Referee(worth), 1)
    games = draw(16, random.Random(1))
    assert busy.most == sum(max(game.first, game.second) < 16 for game in games) > 3
    assert trace.verdicts == calm[1].verdicts
    assert [e.verdict for e in events if isinstance(e, VerdictGiven)] == list(trace.verdicts)


async def test_a_failing_judge_ends_the_tournament_and_its_other_games() -> None:
    class Broken(Referee):
        async def prefer(
            self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
        ) -> Preference:
            if "7" in (a.text, b.text):
                raise ModelError("the model is gone")
            await asyncio.sleep(60)
            return Preference(1)

    with pytest.raises(ModelError, match="the model is gone"):
        # The failing game is the first one here; the others would take a minute.
        games = draw(8, random.Random(0))
        texts = [str(k) for k in range(8)]
        texts[7], texts[games[0].first] = texts[games[0].first], "7"
        await asyncio.wait_for(play(texts, Broken(worth)), timeout=5)
    assert len(asyncio.all_tasks()) == 1


async def test_a_judge_that_cannot_check_fails_in_words() -> None:
    class Broken(Referee):
        async def check(
            self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
        ) -> Opinion | None:
            raise ModelError("the model is gone")

    with pytest.raises(ModelError, match="the model is gone"):
        await play(["1", "2"], Broken(worth))
