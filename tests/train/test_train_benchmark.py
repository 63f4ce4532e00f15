"""The benchmark of training runs in short, and both sides learn from the same tokens."""

from command import figures


def test_the_benchmark_compares_like_with_like() -> None:
    runs = figures("train.py")["runs"]
    assert set(runs) == {"ours", "ours, by chance", "TRL"}
    assert all(run["tokens"] > 100 and run["seconds"] > 0 for some in runs.values() for run in some)
    tokens = [some[0]["tokens"] for some in runs.values()]
    assert max(tokens) < 2 * min(tokens)
