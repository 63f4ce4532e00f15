"""Reading a recipe: a YAML file, checked field by field.

Owns the sentence that says what is wrong with one. What the fields are is their verb's subject.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from llava_cot.data.records import DataError

_Recipe = TypeVar("_Recipe", bound=BaseModel)


def read_yaml(path: Path) -> dict[str, Any]:
    """The fields of a YAML file. Raises DataError if it is none, or holds anything but fields."""
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read the recipe {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise DataError(f"{path}{line}: this is no YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(fields, dict):
        raise DataError(f"{path}: a recipe is a list of fields, such as 'seed: 0'; there are none here")
    return fields


def read_recipe(path: Path, kind: type[_Recipe]) -> _Recipe:
    """The recipe in a file. Raises DataError naming the file and the field that is wrong."""
    try:
        return kind.model_validate(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise DataError(f"{path}: {f'{field}: ' if field else ''}{message}{more}") from None
