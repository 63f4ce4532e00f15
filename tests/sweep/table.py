"""The tables of docs/reference/architectures.md. `make sweep` writes them, after all tests have passed."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from llava_cot.errors import ModelError
from llava_cot.models.local.model import LocalModel
from sweep.registry import TinyType, all_types

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "architectures.md"
_ROW = re.compile(r"^\| `([^`]+)` \| .* \| (.*) \|$", re.MULTILINE)


def refusal(tiny_type: TinyType) -> str:
    """What the engine says of a type that it refuses."""
    with TemporaryDirectory() as name:
        folder = tiny_type.save(Path(name))
        try:
            LocalModel(folder, device="cpu").close()
        except ModelError as error:
            return str(error).replace(str(folder), "FOLDER")
    raise AssertionError(f"{tiny_type.name} is registered as refused, and opens")


def written() -> dict[str, str]:
    """The last column of the page's tables, by the type."""
    return dict(_ROW.findall(PAGE.read_text(encoding="utf-8")))


def runs(tiny_type: TinyType) -> str:
    """The row of a type that the engine runs."""
    notes = [f'not tested: "{case}" ({reason})' for case, reason in tiny_type.without.items()]
    needs = [f"needs {', '.join(tiny_type.needs)}"] if tiny_type.needs else []
    return f"| `{tiny_type.name}` | {tiny_type.family} | {'; '.join([*needs, *notes])} |\n"


def refuses(tiny_type: TinyType) -> str:
    """The row of a type that the engine refuses: its words, or those on the page if a package is missing."""
    words = written().get(tiny_type.name, "") if tiny_type.missing else refusal(tiny_type)
    return f"| `{tiny_type.name}` | {tiny_type.family} | {words} |\n"


def write() -> None:
    text = PAGE.read_text(encoding="utf-8")
    types = all_types().values()
    parts = {
        "runs": "".join(runs(one) for one in types if not one.refused),
        "refused": "".join(refuses(one) for one in types if one.refused),
    }
    for name, rows in parts.items():
        pattern = re.compile(rf"(<!-- sweep: {name} -->\n\|.*\n\|.*\n)(?:\|.*\n)*")
        text = pattern.sub(lambda match, rows=rows: match[1] + rows, text)
    PAGE.write_text(text, encoding="utf-8")
