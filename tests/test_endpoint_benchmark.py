"""The benchmark of the endpoint model runs, and every question gets its own answer, once."""

from command import figures


def test_it_runs() -> None:
    result = figures("endpoint.py")
    assert [one["requests"] for one in result["overhead"]] == [100] * 4
    assert all(0 < one["ours"] < one["httpx"] for one in result["overhead"] if one["wait"])
    faults = result["faults"]
    assert (faults["questions"], faults["answered"], faults["twice"]) == (40, 40, 0)
    assert sum(faults["met"].values()) > 0
