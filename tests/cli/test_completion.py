"""Shell completion: what a shell is told for what has been typed so far."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command import ROOT, environment
from endpoint_double import Double
from playing import WHOLE, remainder

from llava_cot.cli.main import VERBS
from llava_cot.cli.options import complete_judges
from llava_cot.evaluation.benchmarks import BENCHMARKS
from llava_cot.models.registry import open_endpoint, open_model
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.judges import JUDGES
from llava_cot.search.methods import METHODS

SHELLS = ("bash", "zsh", "fish")


def called(*arguments: str, **variables: str) -> str:
    """The output of the command as its script calls it, by the name that shells know."""
    code = "import sys; sys.argv[0] = 'llava-cot'; from llava_cot.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT, env=environment() | variables, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def completed(typed: str) -> list[str]:
    """What bash offers for the last word."""
    words = typed.split(" ")
    return called(
        _LLAVA_COT_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=str(len(words) - 1)
    ).split()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("llava-cot ", [*VERBS]),
        ("llava-cot re", ["report", "reproduce"]),
        ("llava-cot data ", ["sample", "annotate", "duels", "rollouts", "check", "view", "preferences"]),
        ("llava-cot ask --method ", [*METHODS]),
        ("llava-cot ask --method st", ["stage-beam", "stage-wise-beam", "staged-prompt"]),
        ("llava-cot ask x.png q --judge ", [*JUDGES]),
        ("llava-cot ask x.png q --judge l", ["logits", "likelihood"]),
        ("llava-cot eval ", [*BENCHMARKS]),
        ("llava-cot eval sc", [name for name in BENCHMARKS if name.startswith("sc")]),
        ("llava-cot eval scenes --method g", ["greedy"]),
        ("llava-cot eval scenes --method stage", ["stage-beam-2", "stage-wise-beam-4", "staged-prompt"]),
        ("llava-cot judge calibrate --judge ", [name for name in JUDGES if JUDGES[name].scores]),
    ],
)
def test_names_are_offered(typed: str, offered: list[str]) -> None:
    assert completed(typed) == offered


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("--method adaptive-best-of-n --judge ", ["logits", "prm", "critic", "rules", "verifier"]),
        ("--method weighted-best-of-n --judge l", ["logits", "likelihood"]),
        ("--method majority --judge ", []),
    ],
)
def test_a_judge_fits_the_method(typed: str, offered: list[str]) -> None:
    assert completed(f"llava-cot ask x.png q {typed}") == offered


@pytest.mark.slow
def test_what_a_server_cannot_do_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", environment()["XDG_CACHE_HOME"])
    with Double(ScriptedModel(remainder(WHOLE)), logprobs=False) as server:
        ask = f"llava-cot ask x.png q --model {server.url}"
        assert completed(f"{ask} --judge l") == ["logits", "likelihood"]  # nothing is known of it
        open_endpoint(server.url).close()
        for typed in (ask, f"{ask} --model-name scripted"):
            assert completed(f"{typed} --judge ") == [
                name for name, known in JUDGES.items() if not known.logprobs
            ]
            assert completed(f"{typed} --method m") == ["majority"]
        runs = f"llava-cot eval scenes --model mini --model other={server.url} --method"
        assert completed(f"{runs} sw") == [] and completed(f"{runs} st") == ["stage-beam-2", "staged-prompt"]


@pytest.mark.slow
def test_a_server_with_arguments_of_the_template_is_known_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is found out is saved for each set of arguments."""
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    with Double(ScriptedModel(remainder(WHOLE)), logprobs=False) as server:
        (tmp_path / "llava-cot").mkdir()
        provider = {"url": server.url, "chat_template_kwargs": {"enable_thinking": False}}
        file = tmp_path / "llava-cot" / "endpoints.yaml"
        file.write_text(json.dumps({"providers": {"quick": provider}}))
        open_model("quick").close()
        context: Any = SimpleNamespace(params={"model": "quick", "method": "best-of-n"})
        assert "logits" not in complete_judges("", context)


def test_options_are_offered() -> None:
    assert completed("llava-cot ask --judge-") == ["--judge-model", "--judge-prompts"]
    offered = completed("llava-cot ask --")
    assert {"--method", "--judge", "--budget", "--top-k", "--min-p", "--repetition-penalty"} <= set(offered)
    assert {"--model", "--out", "--method"} <= set(completed("llava-cot eval --"))


def test_other_shells_are_told_the_same() -> None:
    typed = "llava-cot ask --judge l"
    zsh = called(_LLAVA_COT_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=typed)
    assert '"logits"' in zsh and '"likelihood"' in zsh and '"self"' not in zsh
    action = {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    fish = called(_LLAVA_COT_COMPLETE="complete_fish", _TYPER_COMPLETE_ARGS=typed, **action)
    assert fish.split() == ["logits", "likelihood"]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script(shell: str) -> None:
    script = called(_LLAVA_COT_COMPLETE=f"source_{shell}")
    assert "_LLAVA_COT_COMPLETE" in script and f"complete_{shell}" in script


@pytest.mark.parametrize("shell", SHELLS)
def test_it_is_installed(shell: str, tmp_path: Path) -> None:
    """Into a home of its own, as if it was called from that shell."""
    code = (
        "import sys; from unittest.mock import patch\n"
        f"sys.argv = ['llava-cot', '--install-completion', '{shell}']\n"
        "from llava_cot.cli.main import main\n"
        f"with patch('shellingham.detect_shell', return_value=('{shell}', '/bin/{shell}')): main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env=environment() | {"HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{shell} completion installed in {tmp_path}" in done.stdout
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(f"complete_{shell}" in text for text in written)
