"""Writes the generated parts of docs/reference: commands, names, methods, judges, recipes and requests.

    python docs/generate_reference.py            # write them
    python docs/generate_reference.py --check    # exit status 1 if a page is out of date

A page is generated between `<!-- generated: NAME -->` and `<!-- end -->`; the rest of it is written by hand.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import llava_cot
from llava_cot.cli.main import app
from llava_cot.data.sources.entry import DataRecipe
from llava_cot.search.judges import JUDGES
from llava_cot.search.methods import METHODS
from llava_cot.server.schemas import ChatRequest
from llava_cot.train.recipe import TrainRecipe

REFERENCE = Path(__file__).parent / "reference"
_PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_NOTES = re.compile(r"\s*\[([^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]$")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


# The command line


def commands() -> Iterator[str]:
    """A section for each verb, with its arguments and options."""
    root = typer.main.get_command(app)
    context = root.context_class(root, info_name="llava-cot")
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        yield from _command(command, f"llava-cot {name}", context, 2)


def _command(command: Any, path: str, parent: Any, level: int) -> Iterator[str]:
    context = command.context_class(command, parent=parent, info_name=path.split()[-1])
    usage = command.get_usage(context).removeprefix("Usage: ")
    text = inspect.cleandoc(command.help or "").split("\f")[0]
    yield f"{'#' * level} {path}\n\n{text}\n\n```\n{' '.join(usage.split())}\n```\n\n"
    for title, kind in (("argument", "argument"), ("option", "option")):
        known = [p for p in command.params if p.param_type_name == kind]
        records = [record for p in known if (record := p.get_help_record(context))]
        rows = [_row(*record) for record in records if not record[0].startswith("-h,")]
        if rows:
            yield table((title, "meaning", "default"), rows) + "\n"
    for name in getattr(command, "list_commands", lambda _: [])(context):
        yield from _command(command.get_command(context, name), f"{path} {name}", context, level + 1)


def _row(name: str, text: str) -> tuple[str, str, str]:
    """The name, what it means, and the default, which a help text has in brackets at its end."""
    notes = _NOTES.search(text)
    default = ""
    if notes:
        parts = notes[1].split("; ")
        default = next((part.removeprefix("default: ") for part in parts if part.startswith("default: ")), "")
        default = f"`{default}`" if default else ""
        if "required" in parts:
            default = "required"
        bounds = [part for part in parts if re.search(r"[<>]=?", part)]
        text = text[: notes.start()] + (f" (`{bounds[0]}`)" if bounds else "")
    text = " ".join(text.split())
    for registry in ("methods", "judges"):
        text = text.replace(f"{{{registry}}};", f"One of the [{registry}]({registry}.md);")
    return f"`{name}`", text, default


# The public names

# Names without a docstring of their own.
_UNDOCUMENTED = {
    "JUDGES": "The judges by name.",
    "LLAVA_COT": "The paper's stage format: summary, caption, reasoning and conclusion.",
    "METHODS": "The methods by name.",
    "__version__": "The version of the package.",
    "ask_sync": "`ask` for code that is not asynchronous.",
}


def names() -> str:
    """A row for each name that `llava_cot` exports."""
    rows = [
        (f"`{name}`", _UNDOCUMENTED.get(name) or _first_sentence(getattr(llava_cot, name)))
        for name in sorted(llava_cot.__all__, key=str.lower)
    ]
    return table(("name", "what it is"), rows)


# Methods and judges


def methods() -> str:
    rows = []
    for name, known in METHODS.items():
        judge = "none" if known.judge is None else f"`{known.judge}`"
        if known.scores:
            judge += ", or another that gives " + ("probabilities" if known.probabilities else "scores")
        elif known.judge is not None:
            judge += ", or any other"
        resources = [f"`--{one.replace('_', '-')}`" for one in known.requires]
        resources += [f"`--{one.replace('_', '-')}` (optional)" for one in known.accepts]
        rows.append(
            (
                f"`{name}`",
                _first_sentence(known.run),
                "1, fixed" if known.single else str(known.n),
                judge,
                "yes" if known.budgeted else "",
                ", ".join(resources),
            )
        )
    return table(("method", "what it does", "default n", "judge", "`--budget`", "takes"), rows)


def judges() -> str:
    rows = [
        (
            f"`{name}`",
            _first_sentence(known.make),
            known.uses,
            "" if not known.scores else "probabilities" if known.probability else "yes",
            "yes" if known.prompted else "",
        )
        for name, known in JUDGES.items()
    ]
    return table(("judge", "what it prefers", "uses", "scores", "`--judge-prompts`"), rows)


def _first_sentence(documented: Any) -> str:
    text = " ".join((inspect.getdoc(documented) or "").split())
    return re.split(r"(?<=[.!?]) (?=[A-Z`])", text)[0]


# Recipes


def fields(
    model: type[BaseModel], prefix: str = "", seen: set[type[BaseModel]] | None = None
) -> Iterator[tuple[str, str, str, str]]:
    """A row for each field of a recipe, and for those of its parts, each part once."""
    seen = set() if seen is None else seen
    for name, field in model.model_fields.items():
        part = _part(field.annotation)
        text = field.description or (_first_sentence(part) if part is not None and part.__doc__ else "")
        yield f"`{prefix}{name}`", text, _type(field), _default(field)
        described = part is not None and all(one.description for one in part.model_fields.values())
        if part is not None and part not in seen and described:
            seen.add(part)
            dots = "[]." if typing.get_origin(field.annotation) is list else "."
            yield from fields(part, f"{prefix}{name}{dots}", seen)


def recipe(model: type[BaseModel]) -> str:
    return table(("field", "meaning", "type", "default"), fields(model))


def _part(annotation: Any) -> type[BaseModel] | None:
    """The model among the types of an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_part(one) for one in typing.get_args(annotation))
    return next((one for one in found if one is not None), None)


def _type(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {bound:,}"
        for rule in field.metadata
        for key, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if (bound := getattr(rule, key, None)) is not None and abs(bound) < 2**31
    ]
    return " ".join([_type_name(field.annotation), ", ".join(bounds)]).strip()


def _type_name(annotation: Any) -> str:
    origin, of = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type_name(of[0])
    if origin is typing.Literal:
        return ", ".join(f"`{one}`" for one in of)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_name(one) for one in of if one is not type(None))
    if origin is list:
        return f"list of {_type_name(of[0])}"
    if origin is dict:
        return f"mapping of {_type_name(of[0])} to {_type_name(of[1])}"
    if origin is tuple:
        return f"list of {_type_name(of[0])}"
    names = {str: "text", Path: "path", int: "number", float: "number", bool: "true or false"}
    return names.get(annotation, "settings")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value == []:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


# The pages


def parts() -> dict[str, str]:
    """The generated parts by name."""
    return {
        "commands": "".join(commands()),
        "names": names(),
        "methods": methods(),
        "judges": judges(),
        "train-recipe": recipe(TrainRecipe),
        "data-recipe": recipe(DataRecipe),
        "http-request": recipe(ChatRequest),
    }


def pages() -> dict[Path, str]:
    """The pages that have generated parts, as they should be."""
    made, used = parts(), set()

    def fill(found: re.Match[str]) -> str:
        used.add(found[2])
        return f"{found[1]}\n{made[found[2]].rstrip()}\n\n{found[3]}"

    found = {
        path: _PART.sub(fill, text)
        for path in sorted(REFERENCE.glob("*.md"))
        if _PART.search(text := path.read_text(encoding="utf-8"))
    }
    if missing := made.keys() - used:
        raise SystemExit(f"no page of docs/reference has a place for {', '.join(sorted(missing))}")
    return found


def main() -> None:
    stale = [path for path, text in pages().items() if path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        if stale:
            names = ", ".join(path.name for path in stale)
            raise SystemExit(f"out of date: {names}; run python docs/generate_reference.py")
        return
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
