"""Which server a call goes to, on a clock of the test's own."""

from __future__ import annotations

import heapq
import random
from collections import Counter

import pytest

from llava_cot.errors import ModelFailure
from llava_cot.models.endpoint.balancing import Assignment, LoadBalancer


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def taken(balance: LoadBalancer, about: object = None, avoid: tuple[int, ...] = ()) -> Assignment:
    turn = balance.take(about if about is not None else object(), avoid)
    assert isinstance(turn, Assignment)
    return turn


def played(seconds: list[float], slots: int, at_once: int, calls: int) -> Counter[int]:
    """How many of the calls each server answers, if it works on so many at a time, each for so long."""
    clock, rng = Clock(), random.Random(1)
    balance, answered = LoadBalancer(len(seconds), clock), Counter[int]()
    free = [[clock.now] * slots for _ in seconds]
    running: list[tuple[float, int, Assignment]] = []
    for number in range(calls):
        if len(running) == at_once:
            clock.now, _, turn = heapq.heappop(running)
            balance.done(turn)
            answered[turn.number] += 1
        turn = taken(balance)
        start = max(clock.now, heapq.heappop(free[turn.number]))
        end = start + seconds[turn.number] * rng.uniform(0.5, 1.5)
        heapq.heappush(free[turn.number], end)
        heapq.heappush(running, (end, number, turn))
    return answered


@pytest.mark.parametrize("seconds", [[1.0, 1.0], [1.0, 3.0], [5.0, 1.0, 2.0]])
@pytest.mark.parametrize("at_once", [24, 128])
def test_servers_that_have_as_much_as_they_can_do_get_it_in_proportion_to_their_speed(
    seconds: list[float], at_once: int
) -> None:
    answered = played(seconds, slots=4, at_once=at_once, calls=4000)
    speeds = [1 / one for one in seconds]
    for i, speed in enumerate(speeds):
        assert answered[i] / answered.total() == pytest.approx(speed / sum(speeds), rel=0.15)


def test_the_faster_of_two_idle_servers_is_taken() -> None:
    clock = Clock()
    balance = LoadBalancer(2, clock)
    first, second = taken(balance), taken(balance)
    assert {first.number, second.number} == {0, 1}
    clock.now += 1
    balance.done(first)
    clock.now += 2
    balance.done(second)
    assert [taken(balance).number for _ in range(2)] == [first.number] * 2


def test_calls_about_one_thing_stay_together_unless_their_server_is_much_busier() -> None:
    balance = LoadBalancer(2, Clock())
    home = taken(balance, "a").number
    assert [taken(balance, "a").number for _ in range(7)] == [home] * 7
    others = [taken(balance, "a").number for _ in range(20)]
    assert others[0] != home and 0 < others.count(home) < 20


def test_one_call_tries_a_server_that_failed_and_rests_grow() -> None:
    clock = Clock()
    balance = LoadBalancer(2, clock)
    balance.failed(turn := taken(balance), "it broke")
    bad = turn.number
    for rest in (1, 2, 4, 8, 16, 32, 60, 60):
        clock.now += rest - 0.01
        assert {taken(balance).number for _ in range(20)} == {1 - bad}
        clock.now += 0.02
        trial = taken(balance)
        assert (trial.number, trial.trial) == (bad, True)
        assert {taken(balance).number for _ in range(20)} == {1 - bad}
        clock.now += 5
        balance.failed(trial, "it broke again")
    clock.now += 61
    balance.done(taken(balance))
    assert bad in {taken(balance).number for _ in range(20)}


def test_a_trial_that_is_given_up_leaves_the_next_call_to_try() -> None:
    clock = Clock()
    balance = LoadBalancer(2, clock)
    balance.failed(taken(balance), "it broke")
    clock.now += 2
    balance.dropped(taken(balance))
    assert taken(balance).trial


def test_failures_of_calls_that_began_before_something_better_was_heard_say_nothing() -> None:
    clock = Clock()
    balance = LoadBalancer(1, clock)
    turns = [taken(balance) for _ in range(5)]
    clock.now += 1
    balance.done(turns[0])
    balance.failed(turns[1], "it broke")
    clock.now += 0.1
    late = taken(balance)  # it does not rest
    clock.now += 1
    balance.failed(late, "it broke")
    assert balance.take("") == pytest.approx(1.0)
    for turn in turns[2:]:
        balance.failed(turn, "it broke")  # not four in a row
    clock.now += 1.01
    assert taken(balance).trial


def test_one_call_that_always_fails_is_not_taken_for_the_end_of_all_servers() -> None:
    clock = Clock()
    balance = LoadBalancer(1, clock)
    for _ in range(12):
        balance.failed(taken(balance, "a"), "it broke")
        clock.now += 1.01  # the rest does not grow
    assert taken(balance).trial


def test_a_server_that_asks_for_a_rest_gets_it() -> None:
    clock = Clock()
    balance = LoadBalancer(1, clock)
    balance.failed(taken(balance), "slow down", after=30)
    clock.now += 29
    assert balance.take("") == pytest.approx(1.0)  # looked at again once a second
    clock.now += 1.01
    balance.failed(taken(balance), "out of quota", after=1000)
    with pytest.raises(ModelFailure, match="out of quota"):
        balance.take("")


def test_when_all_are_gone_it_is_said_of_each_and_they_are_tried_all_the_same() -> None:
    clock = Clock()
    balance = LoadBalancer(2, clock)
    for _ in range(5):
        for why in ("a broke", "b broke"):
            balance.failed(taken(balance, avoid=(1,) if why[0] == "a" else (0,)), why)
        clock.now += 30
    clock.now -= 30
    with pytest.raises(ModelFailure, match="none of the 2 servers answers: a broke; b broke"):
        balance.take("")
    clock.now += 30
    balance.done(taken(balance))
    assert isinstance(balance.take(""), Assignment)


def test_a_server_that_failed_a_call_is_tried_again_only_if_there_is_no_other() -> None:
    balance = LoadBalancer(3, Clock())
    assert {taken(balance, "a", avoid=(0, 2)).number for _ in range(9)} == {1}
    assert {taken(balance, avoid=(0, 1, 2)).number for _ in range(30)} == {0, 1, 2}
