"""One language: names that the package uses, and names that it does not use twice."""

import ast
import inspect
import re
from collections import defaultdict
from pathlib import Path

import llava_cot

ROOT = Path(llava_cot.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))

# Words of version 0.1.0 that have a plain one in the glossary (docs/glossary.md).
OLD_WORDS = {
    "abilities", "ability", "asked", "beside", "colour", "dialect", "dialects", "drafts", "equip",
    "equipment", "equipped", "equipping", "extras", "fills", "forcing", "graded", "insist", "jobs", "kept",
    "labelled", "lane", "lanes", "neighbour", "neighbours", "owe", "owed", "owes", "owing", "said", "told",
    "weigh", "whom", "whose",
}  # fmt: skip
# Fields of files and replies that version 0.1.0 wrote: their names are part of the format.
FORMAT_FIELDS: set[str] = set()


def words(name: str) -> set[str]:
    """The words of an identifier, in lower case."""
    return {word.lower() for part in name.split("_") for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", part)}


def identifiers(path: Path) -> set[str]:
    """The names that a module defines: of functions, classes, parameters, variables and fields."""
    found = {path.stem}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


def test_no_identifier_has_an_old_word() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in SOURCES
        for name in sorted(identifiers(path) - FORMAT_FIELDS)
        if words(name) & OLD_WORDS
    ]
    assert wrong == []


def test_no_two_modules_of_one_name() -> None:
    places = defaultdict(list)
    for path in SOURCES:
        if path.stem not in {"__init__", "__main__", "base"} and path.parent.name != "cli":
            places[path.stem].append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_two_public_classes_of_one_name() -> None:
    places = defaultdict(list)
    for path in SOURCES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_what_the_package_exports_is_documented() -> None:
    for name in llava_cot.__all__:
        exported = getattr(llava_cot, name)
        if inspect.isclass(exported) or inspect.isfunction(exported):
            text = inspect.getdoc(exported) or ""
            assert text and text[0].isupper(), name
            if inspect.isfunction(exported):
                parameters = set(inspect.signature(exported).parameters)
                described = set(re.findall(r"^ {4}\**(\w+):", text, re.MULTILINE))
                assert len(parameters) < 2 or parameters <= described, (name, parameters - described)
