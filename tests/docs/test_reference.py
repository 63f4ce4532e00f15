"""The reference is what the code says, and what the pages name exists."""

from __future__ import annotations

import ast
import pkgutil
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from docs.blocks import blocks_of

import llava_cot
import llava_cot.errors

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
WRITTEN = sorted(
    path
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
    if path != DOCS / "reference" / "cli.md"
)
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
_COMMAND = re.compile(r"^(?:\$ )?llava-cot (?:.*\\\n)*.*$", re.MULTILINE)
_DOTTED = re.compile(r"`(llava_cot(?:\.\w+)+)")
_FILE = re.compile(r"`((?:src|tests|examples|recipes|benchmarks|research|docs)/[\w./-]*\w)`")
_GROUPS = {f"llava_cot.{group}" for group in ("methods", "judges", "models", "sources", "benchmarks")}
_LINK = re.compile(r"\]\(([^)#\s]+)")


def test_the_generated_pages_are_up_to_date() -> None:
    script = DOCS / "generate_reference.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_exported_name_is_in_the_api() -> None:
    page = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^::: llava_cot\.[\w.]+\.(\w+)$", page, re.MULTILINE))
    elsewhere = {"JUDGES", "LLAVA_COT", "METHODS", "__version__", "ask_sync"}  # in prose or tables
    assert "::: llava_cot.errors\n" in page
    errors = {name for name in llava_cot.__all__ if name in vars(llava_cot.errors)}
    assert set(llava_cot.__all__) - documented - errors <= elsewhere


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_options_of_commands_exist(path: Path) -> None:
    reference = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    known = set(_OPTION.findall(reference)) | {"--help", "--version", "--debug"}
    commands = _COMMAND.findall(path.read_text(encoding="utf-8"))
    used = {option for command in commands for option in _OPTION.findall(command)}
    assert used <= known


def exists(name: str) -> bool:
    """Whether a dotted name leads to a module, or to something in one."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_in_python_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = set(_DOTTED.findall(text))
    for block in blocks_of(text):
        if block.language == "python":
            tree = ast.parse(block.text)
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("llava_cot"):
                    named |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert [name for name in sorted(named - _GROUPS) if not exists(name)] == []


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_of_the_repository_exist(path: Path) -> None:
    named = set(_FILE.findall(path.read_text(encoding="utf-8")))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"])
def test_links_of_the_pages_at_the_root_lead_to_files(name: str) -> None:
    links = _LINK.findall((ROOT / name).read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert missing == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_a_first_sentence_ends_where_the_next_one_begins() -> None:
    first = runpy.run_path(str(DOCS / "generate_reference.py"), run_name="loaded")["_first_sentence"]

    def documented() -> None:
        """Sample at 0.6, e.g. twice. Then stop."""

    assert first(documented) == "Sample at 0.6, e.g. twice."
