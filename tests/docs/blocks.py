"""The code blocks of Markdown pages, and the shell script that runs those of one page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from textwrap import dedent

_MARK = re.compile(r"\s*<!-- (not run|file): (.+?) -->\s*")
_FENCE = re.compile(r"(\s*)```(\w*)\s*")
_HEAD = """\
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: What follows the fence, such as sh.
        text: The lines between the fences, without common indentation.
        not_run: Why it is not run: the comment `<!-- not run: REASON -->` above it.
        file: The file that it is saved as: the comment `<!-- file: NAME -->` above it.
    """

    language: str
    text: str
    not_run: str | None = None
    file: str | None = None


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    lines: list[str] | None = None
    mark: re.Match[str] | None = None
    language = ""
    for line in page.splitlines():
        fence = _FENCE.fullmatch(line)
        if lines is not None:
            if fence and not fence[2]:
                notes = {mark[1]: mark[2]} if mark else {}
                text = dedent("\n".join(lines))
                found.append(Block(language, text, notes.get("not run"), notes.get("file")))
                lines = mark = None
            else:
                lines.append(line)
        elif fence:
            lines, language = [], fence[2]
        elif line.strip():
            mark = _MARK.fullmatch(line)
    return found


def script_of(blocks: list[Block]) -> str:
    """One shell script that does what a reader does with these blocks; it stops at the first that fails."""
    parts = [_HEAD]
    for number, block in enumerate(blocks):
        parts.append(f"echo '--- block {number}' >&2")
        if block.language == "sh":
            parts.append(block.text)
        elif block.file:
            parts.append(f"cat > {block.file} <<'END_OF_BLOCK'\n{block.text}\nEND_OF_BLOCK")
        else:
            parts.append(f"python - <<'END_OF_BLOCK'\n{block.text}\nEND_OF_BLOCK")
    return "\n".join(parts) + "\n"
