"""`llava-cot plan` as a command."""

from __future__ import annotations

import json
import random
from pathlib import Path

from command import refusal, run
from endpoint_double import Double
from teachers import staged

from llava_cot.models.base import Prompt
from llava_cot.models.scripted import ScriptedModel


def questions(folder: Path, count: int) -> Path:
    file = folder / "mine.jsonl"
    file.write_text(
        "".join(
            json.dumps(
                {
                    "id": f"q/{i}",
                    "conversations": [
                        {"from": "human", "value": f"Which number is 7? ({i})"},
                        {"from": "gpt", "value": "7"},
                    ],
                }
            )
            + "\n"
            for i in range(count)
        )
    )
    return file


def script(prompt: Prompt, rng: random.Random) -> str:
    if "<SUMMARY>" not in prompt.prefix and "choose" in prompt.messages[-1].text:
        return "I choose response 1."
    return staged(rng.choice("75"))[len(prompt.prefix) :]


def test_a_plan_for_a_server(tmp_path: Path) -> None:
    mine = questions(tmp_path, 4)
    with Double(ScriptedModel(script), models=("someone",), owner="vllm") as server:
        words = ("plan", mine, "--model", server.url, "--limit", "4", "--samples", "2", "--branches", "1",
                 "--price", "1,10", "--out", tmp_path / "out", "--judge", "rules")  # fmt: skip
        done = run(*words)
        told = done.stdout.decode()
        calls = len(server.usages)
        again = json.loads(run(*words, "--json").stdout)
        assert len(server.usages) == calls  # nothing is sampled again
    assert "| stage-beam-2@rules |" in told and "To confirm: llava-cot eval " in told
    assert [one["spec"] for one in again["methods"]][:3] == ["single", "greedy", "majority-2"]
    assert all(one["usd"] > 0 for one in again["methods"])
    assert json.loads((tmp_path / "out/plan.json").read_text()) == again
    assert (tmp_path / "out/plan.svg").read_text().startswith("<svg")


def test_what_cannot_be_planned_is_refused(tmp_path: Path) -> None:
    mine = questions(tmp_path, 2)
    assert refusal("plan", mine, "--model", "mini", "--price", "much").startswith("--price is 'much'; give")
    assert "there is no judge" in refusal("plan", mine, "--model", "mini", "--judge", "nobody")
    assert refusal("plan", mine, "--model", "mini", "--branches", "9").startswith(
        "--branches is 9; give 1 to 8"
    )
    assert "--judge-model is only used by" in refusal(
        "plan", mine, "--model", "mini", "--judge", "rules", "--judge-model", "mini"
    )
