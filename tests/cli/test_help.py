"""What the help says, and what it costs: it answers before anything heavy is imported."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from command import ROOT, environment
from typer.testing import CliRunner

from llava_cot.cli.main import VERBS, app
from llava_cot.models.base import SAMPLING_OPTIONS
from llava_cot.search.judges import JUDGES
from llava_cot.search.methods import METHODS
from llava_cot.search.request import SearchOptions
from llava_cot.search.resources import ResourceOptions

HEAVY = {
    "PIL", "aiohttp", "asyncio", "httpx", "jinja2", "numpy", "pydantic", "rich", "torch", "transformers",
    "yaml",
}  # fmt: skip


def imported(*arguments: str, **variables: str) -> tuple[str, set[str]]:
    """The output of a command, and the heavy packages that it has imported at its end."""
    code = (
        "import sys; sys.argv[0] = 'llava-cot'\n"
        "from llava_cot.cli.main import main\n"
        "try: main()\n"
        f"finally: print('IMPORTED', *({HEAVY!r} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT, env=environment() | variables, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    told, _, names = done.stderr.rpartition("IMPORTED")
    return done.stdout + told, set(names.split())


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], [], ["--version"]])
def test_the_help_imports_nothing_heavy(arguments: list[str]) -> None:
    shown, heavy = imported(*arguments)
    assert shown and heavy == set()


@pytest.mark.parametrize("typed", ["llava-cot ", "llava-cot ask --judge ", "llava-cot eval sc"])
def test_completion_imports_no_torch(typed: str) -> None:
    number = str(typed.count(" "))
    shown, heavy = imported(_LLAVA_COT_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=number)
    assert shown and not heavy & {"torch", "transformers"}


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_imports_no_torch(verb: str) -> None:
    shown, heavy = imported(verb, "--help")
    assert f"Usage: llava-cot {verb}" in shown
    assert not heavy & {"torch", "transformers"}


def shown(*arguments: str) -> str:
    """A help, in one line."""
    text = CliRunner().invoke(app, [*arguments, "--help"]).stdout
    return " ".join(re.sub(r"-\n +", "-", text).split())


def test_the_help_lists_every_verb_with_its_line() -> None:
    text = shown()
    assert all(f"{verb} {line}" in text for verb, line in VERBS.items())


@pytest.mark.parametrize("verb", VERBS)
def test_the_line_of_a_verb_is_that_of_its_own_help(verb: str) -> None:
    """The table has a copy of each, so that no module need be imported."""
    assert VERBS[verb] in shown(verb)


def test_the_help_names_every_method_and_judge() -> None:
    text = shown("ask")
    assert "{methods}" not in text and "{judges}" not in text
    assert f"{', '.join(list(METHODS)[:-1])} or {list(METHODS)[-1]};" in text
    assert f"{', '.join(list(JUDGES)[:-1])} or {list(JUDGES)[-1]};" in text


def test_every_field_is_an_option_with_its_description() -> None:
    text = shown("ask")
    for name in (*SAMPLING_OPTIONS, *SearchOptions.model_fields, *ResourceOptions.model_fields):
        option = "-n" if name == "n" else f"--{name.replace('_', '-')}"
        assert re.search(rf"(?<![\w-]){option} (<|[A-Z])", text), option
    for kind in (SearchOptions, ResourceOptions):
        for field in kind.model_fields.values():
            description = (field.description or "").removeprefix("The method; ").removeprefix("The judge; ")
            assert description and " ".join(description.split()) in text
