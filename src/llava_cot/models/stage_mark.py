"""The mark in a checkpoint's folder that says that the model was trained to write stages, and which."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from llava_cot.core.files import write_whole
from llava_cot.core.stages import StageFormat

MARK = "llava-cot.json"
# The published weights, by any of their names: Xkev/Llama-3.2V-11B-cot, LLaVA-CoT, LLaVA-o1. A revision of
# the hub, and adapters, may follow.
_PUBLISHED = re.compile(
    r"(?:.*/)?(?:llama-3\.2v-11b-cot|llava-cot(?:-11b)?|llava-o1)(?:[@+].*)?", re.IGNORECASE
)


def write_mark(folder: Path, fmt: StageFormat) -> None:
    """Mark a checkpoint as trained to write these stages."""
    tags = [{"name": stage.name, "open": stage.open, "close": stage.close} for stage in fmt.stages]
    write_whole(folder / MARK, json.dumps({"format": tags, "final": fmt.final}, indent=1) + "\n")


def trained_on_stages(name: str, folders: Iterable[Path]) -> bool | None:
    """Whether a model was trained to write stages, of whatever format.

    A model that was trained on other stages than those of a search is not prompted for these: it would go on
    to write its own.

    Args:
        name: The model's name.
        folders: The folders of its checkpoint and its adapters.

    Returns:
        True if one of them is marked, or the name is that of the published weights; None if nothing is known.
    """
    return is_published(name) or any((folder / MARK).is_file() for folder in folders) or None


def is_published(name: str) -> bool:
    """Whether this is a name of the published weights."""
    return _PUBLISHED.fullmatch(name) is not None
