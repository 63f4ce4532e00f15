import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from llava_cot.core.files import (
    home_path,
    output_file,
    path_inside,
    read_yaml,
    relative_name,
    write_whole,
)
from llava_cot.core.trace import Trace
from llava_cot.data.preferences.from_traces import read_traces, trace_files
from llava_cot.data.reading import RecordFile
from llava_cot.data.sources.tsv import read_tsv
from llava_cot.errors import DataError
from llava_cot.evaluation.benchmarks import open_benchmark
from llava_cot.search.calibration import load_calibration

# Nine aliases of nine aliases, and so on.
LAUGHS = "".join(f"a{i + 1}: &a{i + 1} [{f'*a{i}, ' * 9}]\n" for i in range(9)).replace("*a0", "1")


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    write_whole(target, "old")
    write_whole(target, "neu ü")
    assert target.read_text(encoding="utf-8") == "neu ü"
    assert list(tmp_path.iterdir()) == [target]
    assert target.stat().st_mode & 0o444 == 0o444


def test_a_failure_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    write_whole(target, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(target, "\ud800")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    write_whole(link, "new")
    assert real.read_text() == "new"
    assert link.is_symlink()


@pytest.mark.parametrize("name", ["missing/page.html", ".", "/dev/null"])
def test_what_cannot_be_written_is_refused_beforehand(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"^cannot write "):
        output_file(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: {c: 1, c: 2}", "the key c is there twice in what begins in line 2; remove one"),
        ("day: 2020-13-45", "month must be in 1..12"),
        ('a: "\\ud800"', "the text in line 1 has half a character"),
        ("a: .inf", "line 1: .inf is no number that can be used"),
        ("a:\n  b: -.INF", "line 2: -.INF is no number"),
        ("a: .nan", "line 1: .nan is no number"),
        ("a: " + "9" * 5000, "line 1: the number has too many digits"),
        ("[" * 5000, "it is nested too deeply"),
        ("{a: " * 5000, "it is nested too deeply"),
        ("a: &a [*a]", "what begins in line 1 has too many values, or has no end"),
        ("a: &a {<<: *a}", "what begins in line 1 has too many values, or has no end"),
        (LAUGHS, "what begins in line "),
        ("a: !!timestamp x", "a value does not fit its tag"),
        ("a: !!float ''", "a value does not fit its tag"),
        ("a: !!float x", "could not convert string to float"),
        ("a: !!python/object/apply:os.system [ls]", "is not YAML: could not determine a constructor"),
        ("? [a]\n: b\n? {b: c}\n: d", "is not YAML"),
    ],
)
def test_yaml_that_means_something_else_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(text)
    begin = "the recipe {} {}" if words.startswith("is ") else "the recipe {}: {}"
    with pytest.raises(DataError, match=re.escape(begin.format(file, words))):
        read_yaml(file)


def test_keys_that_are_merged_are_not_there_twice(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("base: &base {a: 1}\nmade: {<<: *base, a: 2}")
    assert read_yaml(tmp_path / "r.yaml")["made"] == {"a": 2}


def test_an_absolute_path_below_a_root_is_a_name_in_it(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("a/b.png", str(tmp_path / "a/b.png")):
        assert relative_name(tmp_path, name) == "a/b.png"
        assert relative_name(tmp_path / "link", name) == "a/b.png"
        assert path_inside(tmp_path, name) == tmp_path / "a/b.png"
    for name in ("/etc/passwd", f"{tmp_path}/../x.png", "../x.png", "a\0b"):
        with pytest.raises(DataError):
            path_inside(tmp_path, relative_name(tmp_path, name))


@pytest.mark.parametrize("text", ["a: 1\n" + "".join(f"k{i}:\n" for i in range(2**16)), "- [1, 2]\n" * 2**17])
@pytest.mark.slow
def test_yaml_of_any_size_takes_bounded_time(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text[: 2**20 + 1])
    began = time.process_time()
    with pytest.raises(DataError, match=r"has too many values|has more than"):
        read_yaml(tmp_path / "r.yaml")
    assert time.process_time() - began < 30


@pytest.mark.parametrize(
    "number", ["0b" + "1" * 10**6, "0x" + "f" * 5000, ":".join(["59"] * 300_000), "9" * 101]
)
def test_a_number_of_very_many_digits_is_refused(tmp_path: Path, number: str) -> None:
    (tmp_path / "r.yaml").write_text(f"a: 1\nb: {number}")
    with pytest.raises(DataError, match="line 2: the number has too many digits"):
        read_yaml(tmp_path / "r.yaml")


def _read_all(reader: Callable[[Path], Iterable[object]]) -> Callable[[Path], object]:
    return lambda path: list(reader(path))


@pytest.mark.parametrize(
    "read",
    [
        read_yaml,
        Trace.load,
        load_calibration,
        lambda path: open_benchmark(str(path)),
        _read_all(read_tsv),
        _read_all(RecordFile),
        _read_all(lambda path: read_traces(trace_files([path]))),
        _read_all(lambda path: read_traces(trace_files([path.parent]))),
    ],
    ids=["YAML", "trace", "calibration", "benchmark", "TSV", "records", "traces", "folder of traces"],
)
@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_a_file_without_end_or_beginning_is_refused(
    tmp_path: Path, read: Callable[[Path], object], kind: str
) -> None:
    path = tmp_path / "file.jsonl"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match="is a device, a pipe or a socket"):
        read(path)


def test_names_that_cannot_be_files(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for name in ("a", "b/c.png", "\0", "x" * 5000):
        with pytest.raises(DataError, match=r"cannot be a file below"):
            path_inside(tmp_path, name)
    for name in ("/etc/passwd", "../x", "a\\..\\..\\x"):
        with pytest.raises(DataError, match=r"lies outside of|cannot be a file below"):
            path_inside(tmp_path, name)


def test_the_home_of_a_user_that_there_is_not() -> None:
    with pytest.raises(DataError, match="there is no home folder for ~nobody-here/x"):
        home_path("~nobody-here/x")
