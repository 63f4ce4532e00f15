"""The benchmark of GPUs, in miniature on a CPU."""

import json
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import gpu  # noqa: E402


@pytest.mark.parametrize("name", gpu.MODELS)
def test_it_runs_in_miniature(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main([name, "--dry", "--device", "cpu", "--json"])
    found = json.loads(capsys.readouterr().out)
    rows = {(row["who"], row["n"], row["questions"]): row for row in found["rows"]}
    assert list(rows) == [
        ("generate", 1, 1),
        ("published", 2, 1),
        *(("ours", n, questions) for questions in (1, 2) for n in (1, 2)),
    ]
    assert found["bandwidth"] > 0
    for row in found["rows"]:
        assert row["seconds"] > 0 and row["tokens_per_second"] > 0
        if row["who"] == "ours":
            assert 0 < row["share"] < 1 and row["rows"] >= 1 and row["steps_per_second"] > 0


def test_the_shapes_are_those_of_the_published_models() -> None:
    """Parameters in billions, counted without making them."""
    with torch.device("meta"):
        found = {name: gpu.make_network(name, dry=False)[0] for name in gpu.MODELS}
    billions = {name: sum(p.numel() for p in one.parameters()) / 1e9 for name, one in found.items()}
    assert billions == pytest.approx(
        {"llama-3.2-11b-vision": 10.67, "qwen3-vl-8b": 8.77, "smolvlm2-2.2b": 2.25}, rel=0.01
    )
