"""The benchmark of annotating runs, and what it kills loses nothing."""

from command import figures


def test_it_runs() -> None:
    result = figures("data.py")
    [rate] = result["rates"]
    assert rate["questions"] == 128 and 1.8 < rate["calls"] < 2.4 and 0 < rate["share"] <= 1
    assert [one["questions"] for one in result["memory"]] == [100, 500]
    assert result["memory"][1]["megabytes"] < 30
    killed = result["kills"]
    assert killed["same"] and killed["lost"] <= killed["kills"]
    assert killed["sent"] == killed["stored"] + killed["twice"]
    assert killed["twice"] <= killed["kills"] * killed["in_flight"]
