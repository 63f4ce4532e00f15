"""`llava-cot eval` as a command: at a server of a scripted model, and with mini."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import COMMAND, ROOT, environment, refusal, run, wait_for
from endpoint_double import Double
from eval_runs import contents
from teachers import save, staged

from llava_cot.core.trace import Trace
from llava_cot.evaluation.results import RunResults
from llava_cot.evaluation.types import RunKey
from llava_cot.models.base import Prompt, seed_of
from llava_cot.models.scripted import ScriptedModel


def unsure(prompt: Prompt, rng: random.Random) -> str:
    number = prompt.messages[-1].text.split()[-1].split(".")[0]
    if not number.isdigit():
        return ""
    return staged(rng.choice((number, number, "none")))[len(prompt.prefix) :]


@pytest.fixture
def server() -> Iterator[Double]:
    with Double(ScriptedModel(unsure), models=("someone",), owner="vllm") as double:
        double.delay = 0.02
        yield double


def begin(*arguments: str | Path) -> subprocess.Popen[bytes]:
    command = [*COMMAND, "eval", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=environment()
    )


def answer(server: Double, source: Path, out: Path, *more: str) -> tuple[str | Path, ...]:
    model = f"someone={server.url}"
    return (source, "--rule", "exact", "--model", model, "--out", out, "--at-once", "4", *more)


def test_killed_and_begun_again_it_comes_to_the_same(tmp_path: Path, server: Double) -> None:
    source = save(tmp_path / "in", 12)
    more = ("--method", "single", "--method", "majority-2", "--seeds", "2")
    calm = begin(*answer(server, source, tmp_path / "calm", *more))
    table, _ = calm.communicate(timeout=60)
    assert calm.returncode == 0
    before = len(server.usages)
    whole = before
    for _ in range(4):
        process = begin(*answer(server, source, tmp_path / "out", *more))
        wait_for(lambda begun=before: len(server.usages) > begun + 5)  # type: ignore[misc]
        process.kill()
        process.communicate()
        before = len(server.usages)
    process = begin(*answer(server, source, tmp_path / "out", *more))
    again, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert contents(tmp_path / "out") == contents(tmp_path / "calm")
    assert [row.rsplit("|", 2)[0] for row in again.decode().splitlines()] == [
        row.rsplit("|", 2)[0] for row in table.decode().splitlines()
    ]  # all but the seconds
    assert len(server.usages) - whole <= whole + 4 * 4 * 2
    finished = len(server.usages)
    assert begin(*answer(server, source, tmp_path / "out", *more)).wait(60) == 0
    assert len(server.usages) == finished


def test_an_interrupt_keeps_what_arrives(tmp_path: Path, server: Double) -> None:
    source, out = save(tmp_path / "in", 40), tmp_path / "out"
    assert begin(*answer(server, source, tmp_path / "first", "--limit", "1")).wait(60) == 0
    before = len(server.usages)
    process = begin(*answer(server, source, out))
    wait_for(lambda: len(server.usages) > before + 8)
    process.send_signal(signal.SIGINT)
    said, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert said == b"" and b"no new questions are sent" in told and b"Traceback" not in told
    asked = len(server.usages) - before
    with RunResults([out]) as results:
        [setting] = results.runs
        assert sum(one.failure is None for one in results.results(setting)) == asked < 40
    assert begin(*answer(server, source, out)).wait(60) == 0
    assert len(server.usages) == before + 40


def test_failures_count_and_are_retried_by_the_next_run(tmp_path: Path, server: Double) -> None:
    source, out = save(tmp_path / "in", 6), tmp_path / "out"
    assert begin(*answer(server, source, tmp_path / "first", "--limit", "1")).wait(60) == 0
    server.wait = "1000"  # seconds, which is out of quota
    server.faults.extend(["429"] * 3)  # all attempts of one question
    done = run("eval", *answer(server, source, out, "--at-once", "1"))
    assert done.returncode == 1
    assert b"no answer to 1 question, which count as wrong" in done.stderr
    assert b"| in | single | 6 |" in done.stdout and b"| failed |" in done.stdout
    whole = run("eval", *answer(server, source, out, "--json"))
    assert whole.returncode == 0
    [line] = json.loads(whole.stdout)["results"]
    assert (line["benchmark"], line["questions"], line["failed"]) == ("in", 6, 0)


def test_mini_answers_scenes_as_ask_does(tmp_path: Path) -> None:
    out, saved = tmp_path / "out", tmp_path / "trace.json"
    common = ("--model", "mini", "--max-tokens", "200")
    done = run(
        "eval", "scenes:validation", *common, "--method", "stage-beam-2@logits", "--limit", "3", "--out", out
    )
    assert done.returncode == 0, done.stderr
    assert b"| scenes:validation | stage-beam-2@logits | 3 |" in done.stdout
    setting = RunKey("scenes:validation", "mini", "stage-beam-2@logits", 0)
    scenes = tmp_path / "scenes"
    assert run("scenes", scenes, "--split", "validation", "--count", "3").returncode == 0
    with RunResults([out]) as results:
        found = results.results(setting)[1]
        kept, item = results.trace(setting, found.item), results.item("scenes:validation", found.item)
    assert kept is not None and found.skill == item.skill
    asked = run(
        "ask", scenes / "images" / "validation-0-1.png", "\n".join((item.text, *_lettered(item.options))),
        *common,
        "--method", "stage-beam", "-n", "2", "--judge", "logits",
        "--seed", str(seed_of(0, item.id)), "--trace", saved,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    assert _decided(Trace.load(saved)) == _decided(kept)


def _decided(trace: Trace) -> object:
    """All of a trace but what other rows of a batch change in its last digits, and times."""
    duels = [(v.a, v.b, v.winner, v.decided_by) for v in trace.verdicts]
    usage = trace.usage.model_copy(update={"seconds": 0.0})
    return [(c.text, c.tokens, c.finish) for c in trace.candidates], duels, trace.chosen, usage


def _lettered(options: tuple[str, ...]) -> list[str]:
    return [f"{letter}. {option}" for letter, option in zip("ABCDEF", options, strict=False)]


def test_bad_input(tmp_path: Path) -> None:
    source, out = save(tmp_path / "in", 2), tmp_path / "out"
    mini = ("--model", "mini", "--out", out)
    assert "there is no benchmark 'nothing'" in refusal("eval", "nothing", *mini)
    assert "there is no method 'beam'" in refusal("eval", source, *mini, "--method", "beam")
    assert "majority uses no judge" in refusal("eval", source, *mini, "--method", "majority-2@self")
    assert "choose one of conclusion" in refusal("eval", source, *mini, "--answer", "first")
    assert "two models have the name mini" in refusal("eval", source, *mini, "--model", "mini=elsewhere")
    assert "--top-p is 2.0" in refusal("eval", source, *mini, "--top-p", "2")
    assert "there is no scoring rule 'guess'" in refusal("eval", source, *mini, "--rule", "guess")
    assert "holds other files" in refusal("eval", source, "--model", "mini", "--out", source)
    assert "there is no folder nowhere" in refusal("eval", source, *mini, "--scorer", "nowhere")
    assert not out.exists()
    assert "there is no folder nowhere" in refusal("eval", source, "--model", "nowhere", "--out", out)
