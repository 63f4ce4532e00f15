"""Beginning a run of mini's training, or going on with it.

Owns `recipe.json` of the run's folder, and the refusals.
"""

from __future__ import annotations

import json

from llava_cot.core.files import write_whole
from llava_cot.errors import DataError
from research.mini.recipe import MiniRecipe

_FILE = "recipe.json"
_SHARED = {"pictures", "steps"}


def begin(recipe: MiniRecipe, whole: MiniRecipe, resume: bool) -> None:
    """Note what the run is of. Raises DataError if its folder is another's, or is not to be gone on with."""
    out, told = recipe.out, recipe.model_dump(mode="json") | whole.model_dump(mode="json", include=_SHARED)
    file = out / _FILE
    if not file.is_file():
        if out.is_file() or (out.is_dir() and any(out.iterdir())):
            raise DataError(f"{out} holds other files; name a new or empty folder as out")
        out.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(told, indent=1) + "\n")
        return
    if not resume:
        raise DataError(f"{out} holds a run already; add --resume to go on, or name another folder as out")
    try:
        begun = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError(f"{file} is damaged; name another folder as out") from None
    for name, value in told.items():
        if begun.get(name) != value:
            raise DataError(
                f"the run in {out} was begun with other {name} than the recipe now has; put them back, or "
                "name another folder as out"
            )
