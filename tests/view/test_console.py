"""Nothing that a file, a model or a server wrote reaches a terminal with control characters."""

import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from made_traces import staged
from rich.progress import Progress
from rich.text import Text

import llava_cot
from llava_cot.cli import main
from llava_cot.core.trace import Trace
from llava_cot.core.wording import PrintableStream
from llava_cot.view.console import CleanConsole
from llava_cot.view.progress import ProgressDisplay
from llava_cot.view.terminal import trace_tree

EVIL = "\x1b]0;title\x07\x1b[2J\x9b31m\b\r\x7f\u202e"
ROOT = Path(llava_cot.__file__).parent


def spoiled(value: Any) -> Any:
    """A value with escape sequences in each text of it that may be any."""
    if isinstance(value, dict):
        fixed = ("finish", "decided_by", "data")
        return {key: part if key in fixed else spoiled(part) for key, part in value.items()}
    if isinstance(value, list):
        return [spoiled(part) for part in value]
    return f"{EVIL}{value}" if isinstance(value, str) else value


def is_clean(shown: str) -> bool:
    return re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown) is None


def test_a_trace_with_escape_sequences_in_every_field() -> None:
    trace = Trace.model_validate(spoiled(staged(2).model_dump(mode="json")))
    file = io.StringIO()
    CleanConsole(file=file).print(trace_tree(trace))
    assert is_clean(file.getvalue()) and "title" in file.getvalue()


def test_the_command_prints_no_escape_sequences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = Trace.model_validate(spoiled(staged(2).model_dump(mode="json")))
    trace.save(tmp_path / "t.json")
    (tmp_path / f"a{EVIL}.json").write_text("[")
    files = [str(tmp_path / name) for name in ("t.json", f"a{EVIL}.json", f"none{EVIL}.json")]
    for argument in (*files, f"--{EVIL}"):
        monkeypatch.setattr(sys, "argv", ["llava-cot", "trace", argument])
        with pytest.raises(SystemExit):
            main.main()
        out, err = capsys.readouterr()
        assert out + err and is_clean(out) and is_clean(err)


def test_styles_and_bars_are_the_consoles_own() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    file = Terminal()
    console = CleanConsole(file=file)
    console.print(Text(f"a{EVIL}", style="bold"))
    with Progress(console=console) as bar:
        bar.add_task(f"b{EVIL}", total=1)
    with ProgressDisplay(f"c{EVIL}", 3, console=console) as display:
        display.update(1, now=True)
    shown = file.getvalue()
    own = re.sub(r"\x1b\[[0-9;?]*[A-Zhlm]|\r", "", shown)
    assert "\x1b[1m" in shown and is_clean(own)
    assert "]0;title" in own


def test_a_stream_is_like_the_one_below() -> None:
    below = io.StringIO()
    stream: Any = PrintableStream(below)
    print(f"x{EVIL}\ty", file=stream)
    stream.writelines(["\x1b", "z\r\n"])
    stream.flush()
    assert below.getvalue().endswith("\ty\n\N{REPLACEMENT CHARACTER}z\n") and is_clean(below.getvalue())
    assert not stream.isatty()


def test_no_other_console_is_made() -> None:
    others = [
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if re.search(r"(?<!Clean)\bConsole\(|sys\.__std", path.read_text(encoding="utf-8"))
    ]
    assert others == []
