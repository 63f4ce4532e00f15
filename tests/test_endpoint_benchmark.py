"""The benchmark of the endpoint model runs, and every question gets its own answer, once."""

import json
import subprocess
import sys

from command import ROOT, environment


def test_it_runs() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "endpoint.py", "--quick", "--json"],
        capture_output=True,
        check=False,
        timeout=300,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr.decode()
    result = json.loads(done.stdout)
    assert [one["requests"] for one in result["overhead"]] == [300] * 4
    assert all(0 < one["ours"] < one["httpx"] for one in result["overhead"] if one["wait"])
    faults = result["faults"]
    assert (faults["questions"], faults["answered"], faults["twice"]) == (40, 40, 0)
    assert sum(faults["met"].values()) > 0
