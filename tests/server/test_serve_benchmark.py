"""The benchmark of the server runs, and counts what it says it counts."""

from command import figures


def test_it_runs() -> None:
    result = figures("serve.py", "--name", "mini:single")
    assert (result["clients"], result["asked"], result["name"]) == (4, 2 + 4 + 10, "mini:single")
    assert result["failed"] == 0
    assert result["times"] > 0
    assert len(result["memory"]) == 10 and all(50 < used < 5000 for used in result["memory"])
