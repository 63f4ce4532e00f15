"""A recipe of data: which sources, how many of each, and the benchmarks that must not be among them.

Owns the YAML file and the sentences for a wrong one. An entry is `sources/entry.py`'s subject.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from llava_cot.data.records import DataError
from llava_cot.data.sources.entry import Entry

Model = TypeVar("Model", bound=BaseModel)


class Recipe(BaseModel):
    """What is drawn. The same seed draws the same records, wherever they lie on disk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    sources: list[Entry] = Field(min_length=1)
    exclude: list[Entry] = []

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        for number, entry in enumerate(self.sources):
            if entry.count is None:
                raise ValueError(f"sources[{number}] ({entry.label}) needs `count`, a number or 'all'")
        for number, entry in enumerate(self.exclude):
            if entry.count is not None:
                raise ValueError(
                    f"exclude[{number}] ({entry.label}) takes no `count`: all of a benchmark counts"
                )
        for part in ("sources", "exclude"):
            labels = [entry.label for entry in getattr(self, part)]
            for label in labels:
                if labels.count(label) > 1:
                    raise ValueError(f"two {part} are called {label!r}; give one of them a `name`")
        return self

    def located(self, base: Path) -> Recipe:
        """The recipe with places made absolute: relative ones begin at `base`. Raises DataError."""
        places = {
            part: [entry.located(base) for entry in getattr(self, part)] for part in ("sources", "exclude")
        }
        return self.model_copy(update=places)


def read_recipe(path: str | Path, kind: type[Model]) -> Model:
    """A YAML file as a model. Raises DataError with one sentence that names the file and the field."""
    file = Path(path)
    try:
        told = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"there is no recipe {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the recipe {file} cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise DataError(f"the recipe {file} is no YAML: {' '.join(str(error).split())}") from None
    try:
        return kind.model_validate({} if told is None else told)
    except ValidationError as error:
        raise DataError(f"the recipe {file}: {_sentence(error)}") from None


def _sentence(error: ValidationError) -> str:
    """The first fault: "sources[2].count: ..."."""
    fault = error.errors(include_url=False)[0]
    where = ""
    for part in fault["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}"
    if fault["type"] == "extra_forbidden":
        return f"{where.lstrip('.')}: there is no such field"
    said = fault["msg"].removeprefix("Value error, ")
    return f"{where.lstrip('.')}: {said}" if where else said
