"""The benchmark of the server runs, and counts what it says it counts."""

import json
import subprocess
import sys

from command import ROOT, environment


def test_it_runs() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "serve.py", "--quick", "--json", "--name", "mini:single"],
        capture_output=True,
        check=False,
        timeout=300,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr.decode()
    result = json.loads(done.stdout)
    assert (result["clients"], result["asked"], result["name"]) == (4, 2 + 4 + 10, "mini:single")
    assert result["failed"] == 0
    assert result["times"] > 0
    assert len(result["memory"]) == 10 and all(50 < used < 5000 for used in result["memory"])
