"""Reading YAML files as pydantic models, with one sentence that says what is wrong and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from llava_cot.errors import DataError

Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: str | Path, what: str = "recipe") -> Any:
    """The content of a YAML file. Raises DataError that names the file and `what` it is."""
    file = Path(path)
    try:
        loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"there is no {what} {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the {what} {file} cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise DataError(f"the {what} {file} is not YAML: {' '.join(str(error).split())}") from None
    return {} if loaded is None else loaded


def read_recipe(path: str | Path, kind: type[Model]) -> Model:
    """A YAML file as a model. Raises DataError that names the file and the field."""
    return make_recipe(read_yaml(path), kind, path)


def make_recipe(settings: Any, kind: type[Model], name: str | Path, what: str = "recipe") -> Model:
    """The content of the file `name` as a model. Raises DataError that names the field."""
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        raise DataError(f"the {what} {name}: {_sentence(error)}") from None


def _sentence(error: ValidationError) -> str:
    """The first fault: "sources[2].count: ..."."""
    fault = error.errors(include_url=False)[0]
    where = ""
    for part in fault["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}"
    if fault["type"] == "extra_forbidden":
        return f"{where.lstrip('.')}: there is no such field"
    reason = fault["msg"].removeprefix("Value error, ")
    return f"{where.lstrip('.')}: {reason}" if where else reason
