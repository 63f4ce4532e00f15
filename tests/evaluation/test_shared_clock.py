from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from llava_cot.evaluation.run import SharedClock


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans(), st.integers(0, 9)), max_size=40))
def test_shares_add_up_to_the_time_in_which_anything_ran(steps: list[tuple[float, bool, int]]) -> None:
    clock = 0.0
    shared = SharedClock(lambda: clock)
    running: list[float] = []
    busy = total = 0.0
    for seconds, begins, which in steps:
        clock += seconds
        busy += seconds if running else 0.0
        if begins or not running:
            running.append(shared.start())
        else:
            took = shared.stop(running.pop(which % len(running)))
            assert took >= 0
            total += took
    total += sum(shared.stop(begun) for begun in running)
    assert total == approx(busy)


def test_two_at_once_take_half_each() -> None:
    clock = 0.0
    shared = SharedClock(lambda: clock)
    first = shared.start()
    clock = 2.0
    second = shared.start()
    clock = 6.0
    assert shared.stop(first) == 4.0
    clock = 7.0
    assert shared.stop(second) == 3.0
