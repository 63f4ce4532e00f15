"""The code that a checkpoint brings for an architecture of its own: named, and run for users who say so."""

from __future__ import annotations

import logging
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from llava_cot.errors import ModelError
from llava_cot.models.local.config_fields import own_code, read_json

_log = logging.getLogger(__name__)
# What the code may have a model for, the best first.
_AUTO_CLASSES = ("AutoModelForImageTextToText", "AutoModelForVision2Seq", "AutoModelForCausalLM", "AutoModel")
_NAMING = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
_FILE = re.compile(r"[A-Za-z_]\w*\.py", re.ASCII)


def trusted_class(folder: Path) -> Any:
    """The auto class of transformers that loads a checkpoint by its own code; None if it needs none.

    The files that will be run are logged as a warning. Raises ModelError if code is not in the folder.
    """
    raw = read_json(folder / "config.json")
    kind = raw.get("model_type")
    if (isinstance(kind, str) and kind in CONFIG_MAPPING) or not own_code(raw):
        return None
    for name in _NAMING:
        for file in own_code(read_json(folder / name)) if (folder / name).is_file() else ():
            if not _FILE.fullmatch(file) or not (folder / file).is_file():
                raise ModelError(
                    f"{folder / name} names code that is not in its folder ({file}), which is not run"
                )
    found = sorted(folder.rglob("*.py"))
    sums = (sha256(path.read_bytes()).hexdigest()[:12] for path in found)
    shown = (f"{path.relative_to(folder)} ({digest})" for path, digest in zip(found, sums, strict=True))
    _log.warning("running the code of %s: %s", folder, ", ".join(shown))
    auto = next(
        (name for name in _AUTO_CLASSES if name in raw["auto_map"] and hasattr(transformers, name)), None
    )
    if auto is None:
        raise ModelError(
            f"the code of {folder} has no {', '.join(_AUTO_CLASSES[:-1])} or {_AUTO_CLASSES[-1]}"
        )
    return getattr(transformers, auto)
