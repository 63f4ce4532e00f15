from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from llava_cot.evaluation.share import Share


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans(), st.integers(0, 9)), max_size=40))
def test_shares_add_up_to_the_time_in_which_anything_ran(steps: list[tuple[float, bool, int]]) -> None:
    clock = 0.0
    share = Share(lambda: clock)
    running: list[float] = []
    busy = total = 0.0
    for seconds, begins, which in steps:
        clock += seconds
        busy += seconds if running else 0.0
        if begins or not running:
            running.append(share.begin())
        else:
            took = share.end(running.pop(which % len(running)))
            assert took >= 0
            total += took
    total += sum(share.end(begun) for begun in running)
    assert total == approx(busy)


def test_two_at_once_take_half_each() -> None:
    clock = 0.0
    share = Share(lambda: clock)
    first = share.begin()
    clock = 2.0
    second = share.begin()
    clock = 6.0
    assert share.end(first) == 4.0
    clock = 7.0
    assert share.end(second) == 3.0
