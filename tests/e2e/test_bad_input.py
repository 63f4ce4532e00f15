"""Bad input, whole commands: one sentence on standard error, nothing on standard output, status 2."""

import json
from pathlib import Path

import pytest
from command import refusal, run
from made_traces import staged

PICTURE = "examples/scene.png"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"no picture", ""),
        ((Path(__file__).parents[2] / PICTURE).read_bytes()[:2000], ""),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    ],
    ids=["empty", "text", "truncated", "svg"],
)
def test_an_image_that_is_none(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    told = refusal("ask", path, "How many?")
    assert str(path) in told or path.name in told
    assert words in told
    told = refusal("ask", "-", "How many?", stdin=data)
    assert told.startswith("cannot read the image standard input: ") and words in told


@pytest.mark.parametrize(
    "image", ["missing.png", "examples", "http://127.0.0.1:9/picture.png", "ftp://x/y.png"]
)
def test_an_image_that_cannot_be_had(image: str) -> None:
    assert image in refusal("ask", image, "How many?")


def test_images_that_contradict_each_other() -> None:
    assert "IMAGE is 'none'" in refusal("ask", "none", "How many?", "--image", PICTURE)
    assert "standard input" in refusal("ask", "-", "How many?", "--image", "-", stdin=b"x")


def test_a_stage_format_that_is_none() -> None:
    assert "think" in refusal("ask", PICTURE, "How many?", "--format", "think,think")
    assert "another name" in refusal("ask", PICTURE, "How many?", "--format", "sentence,answer")


def test_a_trace_that_could_not_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "trace.json"
    assert "there is no folder" in refusal("ask", "missing.png", "How many?", "--trace", missing)


@pytest.mark.parametrize("data", ["", "{}", "[1]", '{"version": 2}'])
def test_a_file_that_is_no_trace(tmp_path: Path, data: str) -> None:
    path = tmp_path / "trace.json"
    path.write_text(data)
    assert str(path) in refusal("trace", path)


def test_a_missing_trace_and_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    assert "missing.json" in refusal("trace", "missing.json")
    path = tmp_path / "trace.json"
    staged(2).save(path)
    assert "there is no folder" in refusal("trace", path, "--html", tmp_path / "missing" / "page.html")


def test_scenes_that_cannot_be(tmp_path: Path) -> None:
    assert "count" in refusal("scenes", tmp_path / "out", "--count", "0")
    assert "split" in refusal("scenes", tmp_path / "out", "--split", "nowhere")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["ask"], "image"),
        (["ask", PICTURE], "question"),
        (["ask", PICTURE, "How many?", "-n", "many"], "-n"),
        (["ask", PICTURE, "How many?", "--seeds", "1"], "--seeds"),
        (["nonsense"], "nonsense"),
        (["trace"], "file"),
    ],
)
def test_arguments_that_make_no_command(arguments: list[str], named: str) -> None:
    told = refusal(*arguments)
    assert named in told
    assert "--help" in told


def test_no_arguments_show_the_help() -> None:
    result = run()
    assert (result.returncode, result.stdout) == (2, b"")
    assert b"Commands" in result.stderr


def test_debug_shows_where(tmp_path: Path) -> None:
    result = run("--debug", "trace", "missing.json")
    assert result.returncode == 2
    assert b"Traceback" in result.stderr


def test_a_good_trace_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    staged(4).save(path)
    shown = run("trace", path)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert "4 conclusion · 4 candidates, 3 duels, after #8" in shown.stdout.decode()
    page = run("trace", path, "--html", tmp_path / "page.html")
    assert (page.returncode, page.stdout) == (0, b"")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert json.loads(path.read_text())["version"] == 1


def test_a_server_that_is_not_there() -> None:
    told = refusal("ask", "none", "How many?", "--model", "http://127.0.0.1:9/v1")
    assert "http://127.0.0.1:9/v1 cannot be reached" in told
    assert "leave --model-name out" in refusal("ask", "none", "How many?", "--model-name", "big")
    assert "neither an address nor the name of a server" in refusal("models", "check", "examples")
