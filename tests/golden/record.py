"""Writes down what the cases come to, once a result is to change: `python tests/golden/record.py [GROUP]`.

Without a group: all of them. The sentences of refusals are kept beside, to be read alone.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from golden.cases import FOLDER, groups, wordless


def main(wanted: list[str]) -> None:
    with groups() as found:
        for group in wanted or found:
            begun = time.monotonic()
            kept: dict[str, Any] = {}
            refused: dict[str, str] = {}
            for name, case in found[group].items():
                words: list[str] = []
                kept[name] = wordless(json.loads(json.dumps(case())), words)
                refused |= dict.fromkeys([name] * bool(words), " ".join(words))
            write(FOLDER / f"{group}.json", kept)
            if refused:  # to be read, and compared with nothing
                write(FOLDER / f"{group}-refused.json", refused)
            print(f"{group}: {len(kept)} cases in {time.monotonic() - begun:.1f} s")


def write(file: Path, kept: dict[str, Any]) -> None:
    """A line each."""
    told = (f"{json.dumps(name)}: {json.dumps(one, separators=(',', ':'))}" for name, one in kept.items())
    file.write_text("{\n" + ",\n".join(told) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
