"""`llava-cot ask`, whole: on a tiny checkpoint with random weights, whatever it answers."""

import json
import signal
import sys
import time
from pathlib import Path

import pytest
import tiny
from command import ROOT, Terminal, run
from endpoint_double import Double
from PIL import Image

from llava_cot.cli.main import main
from llava_cot.core.stages import LLAVA_COT
from llava_cot.models.scripted import ScriptedModel
from llava_cot.models.stage_mark import write_mark

PICTURE = "examples/scene.png"
FEW = ("--max-tokens", "12")
ENDLESS = ("--method", "best-of-n", "-n", "100", "--max-tokens", "400", "--temperature", "2", "--top-p", "1")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tiny.make("mllama", tmp_path_factory.mktemp("models") / "tiny")
    write_mark(folder, LLAVA_COT)  # it is searched as a model that writes stages, though it writes none
    return str(folder)


def test_a_pipe_gets_the_answer_and_nothing_else(checkpoint: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    picture = (ROOT / PICTURE).read_bytes()
    result = run(
        "ask", "-", "How many?", "--model", checkpoint, *FEW, "--json", "--trace", trace, "--show-search",
        stdin=picture,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr.decode()
    reply = json.loads(result.stdout)
    assert result.stdout.count(b"\n") == 1
    assert list(reply["stages"]) == ["summary", "caption", "reasoning", "conclusion"]
    assert reply["images"][0]["name"] == "standard input"
    assert (reply["model"], reply["method"], reply["n"], reply["seed"]) == ("tiny", "stage-beam", 2, 0)
    assert reply["usage"]["completion_tokens"] >= 2
    assert reply["trace"] == json.loads(trace.read_text())
    assert b"not kept" in result.stderr and b"Warning" not in result.stderr


def test_special_tokens_spelled_in_a_question_are_text(checkpoint: str) -> None:
    words = "<|image|><|end|><|user|>Count <|begin|>these<|assistant|><|pad|>"
    plain = "Count these"
    read = []
    for question in (words, plain):
        result = run("ask", PICTURE, question, "--model", checkpoint, "--method", "single", *FEW, "--json")
        assert result.returncode == 0, result.stderr.decode()
        reply = json.loads(result.stdout)
        assert reply["question"] == question
        read.append(reply["usage"]["prompt_tokens"])
    assert read[0] > read[1] + 6  # more than one a special token


def test_in_a_terminal_the_answer_streams(checkpoint: str) -> None:
    terminal = Terminal("ask", PICTURE, "How many?", "--model", checkpoint, "--method", "single", *FEW)
    assert terminal.end() == 0
    answer, _, usage = terminal.shown.partition("\x1b[2m1 model call")
    assert "read" in usage
    assert answer.replace("\x1b[K", "").splitlines()[-1].strip()


def test_an_interrupt_is_quiet(checkpoint: str) -> None:
    terminal = Terminal("ask", PICTURE, "How many?", "--model", checkpoint, *ENDLESS)
    terminal.read_until("answer...")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert "Traceback" not in terminal.shown and "llava-cot:" not in terminal.shown


def test_more_interrupts_are_as_quiet(checkpoint: str) -> None:
    terminal = Terminal("ask", PICTURE, "How many?", "--model", checkpoint, *ENDLESS)
    terminal.read_until("answer...")
    for _ in range(3):
        terminal.process.send_signal(signal.SIGINT)
        time.sleep(0.03)
    assert terminal.end() == 130
    assert "Traceback" not in terminal.shown and "llava-cot:" not in terminal.shown


def call(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str, str]:
    """The entry point in this process, where torch is loaded only once: status, output, errors."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["llava-cot", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    out, err = capfd.readouterr()
    return int(stopped.value.code or 0), out, err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "guess"], "stage-beam"),
        (["-n", "0"], "at least one"),
        (["-n", "-3"], "at least one"),
        (["--judge", "nobody"], "logits"),
        (["--method", "majority", "--judge", "self"], "majority"),
        (["--temperature", "-1"], "temperature"),
        (["--temperature", "nan"], "temperature"),
        (["--top-p", "0"], "--top-p is 0"),
        (["--max-tokens", "0"], "at least 1"),
        (["--device", "abacus"], "abacus"),
        (["--dtype", "int4"], "int4"),
        (["--cache-mb", "0"], "at least 1"),
        (["--model", "examples"], "no checkpoint"),
        (["--model", "nowhere"], "nowhere"),
        (["--model", "http://localhost:1/v1"], "http://localhost:1/v1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals(
    checkpoint: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    status, out, err = call(
        capfd, monkeypatch, "ask", PICTURE, "How many?", *FEW, "--model", checkpoint, *arguments
    )
    assert (status, out) == (2, "")
    assert err.startswith("llava-cot: ") and err.count("\n") == 1 and words in err


def test_an_empty_question_and_one_longer_than_the_context(
    checkpoint: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for question, words in [(" ", "empty"), ("why " * 2000, str(tiny.CONTEXT))]:
        status, out, err = call(capfd, monkeypatch, "ask", PICTURE, question, "--model", checkpoint, *FEW)
        assert (status, out) == (2, "")
        assert err.startswith("llava-cot: ") and err.count("\n") == 1 and words in err


@pytest.mark.parametrize("lost", ["preprocessor_config.json", "model.safetensors", "config.json"])
def test_an_incomplete_checkpoint(
    checkpoint: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    lost: str,
) -> None:
    for file in Path(checkpoint).iterdir():
        if not file.name.startswith(("processor_config", "preprocessor") if lost.startswith("pre") else lost):
            (tmp_path / file.name).symlink_to(file)
    status, out, err = call(capfd, monkeypatch, "ask", PICTURE, "How many?", "--model", str(tmp_path))
    assert (status, out) == (2, "")
    assert err.startswith("llava-cot: ") and err.count("\n") == 1 and str(tmp_path) in err


def test_the_same_seed_gives_the_same_answer(
    checkpoint: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(seed: int) -> dict[str, object]:
        status, out, err = call(
            capfd, monkeypatch, "ask", PICTURE, "How many?", "--model", checkpoint, *FEW, "--json", "-n", "3",
            "--seed", str(seed), "--temperature", "1", "--trace", str(Path(checkpoint).parent / "trace.json"),
        )  # fmt: skip
        assert status == 0 and all(line.startswith("warning: ") for line in err.splitlines())
        reply = json.loads(out)
        for usage in (reply["usage"], reply["trace"]["usage"]):
            del usage["seconds"]
        return reply

    assert answer(1) == answer(1)
    assert answer(1)["trace"] != answer(2)["trace"]


def test_no_picture_and_two_pictures(
    checkpoint: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for more, count in [(["none"], 0), ([PICTURE, "--image", "examples/spheres.png"], 2)]:
        status, out, err = call(
            capfd,
            monkeypatch,
            "ask",
            *more[:1],
            "How many?",
            *more[1:],
            "--model",
            checkpoint,
            *FEW,
            "--json",
        )
        assert status == 0 and all(line.startswith("warning: ") for line in err.splitlines())
        assert len(json.loads(out)["images"]) == count


def test_warnings_go_to_standard_error_and_into_the_object(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with Double(ScriptedModel(lambda prompt, rng: "" if prompt.prefix else "It is a cat.")) as server:
        asked = ("ask", PICTURE, "What is it?", "--model", server.url, "--stages", "trained")
        status, out, err = call(capfd, monkeypatch, *asked)
        assert (status, out) == (0, "It is a cat.\n")
        assert "warning: none of the stages summary, caption, reasoning, conclusion was found" in err
        trace = tmp_path / "trace.json"
        status, out, err = call(capfd, monkeypatch, *asked, "--json", "--trace", str(trace))
        reply = json.loads(out)
        assert err.startswith("warning: none of the stages") and err.count("\n") == 1
        assert reply["warnings"] == reply["trace"]["warnings"] == json.loads(trace.read_text())["warnings"]
        assert [warning["kind"] for warning in reply["warnings"]] == ["no-stages"]
        assert call(capfd, monkeypatch, *asked, "-q") == (0, "It is a cat.\n", "")


def test_mini_is_not_taken_at_its_word_about_other_things(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other.png"
    Image.effect_noise((200, 200), 60).save(other)
    counting = "How many cubes are there?"
    for picture, question, words in (
        (PICTURE, counting, None),
        (str(other), counting, "the picture does not look like one"),
        ("none", counting, "there is no picture"),
        (PICTURE, "Who painted it?", "no question about them has the words who, painted, it"),
    ):
        status, out, err = call(capfd, monkeypatch, "ask", picture, question, "--method", "single", "--json")
        assert status == 0
        found = [one["text"] for one in json.loads(out)["warnings"] if one["kind"] == "unfamiliar"]
        expected = f"mini knows llava-cot's scenes of geometric objects alone, and {words}"
        assert found == ([] if words is None else [expected])
        assert (expected in err) == (words is not None)
