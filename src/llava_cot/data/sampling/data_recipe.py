"""A recipe of data: which sources, how many of each, and the benchmarks that must not be among them.

Owns the fields of the YAML file. An entry is `sources/entry.py`'s subject.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llava_cot.data.sources.entry import SourceEntry


class DataRecipe(BaseModel):
    """What is drawn. The same seed draws the same records, wherever they lie on disk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    sources: list[SourceEntry] = Field(min_length=1)
    exclude: list[SourceEntry] = []

    @model_validator(mode="after")
    def _fits(self) -> DataRecipe:
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

    def located(self, base: Path) -> DataRecipe:
        """The recipe with places made absolute: relative ones begin at `base`. Raises DataError."""
        places = {
            part: [entry.located(base) for entry in getattr(self, part)] for part in ("sources", "exclude")
        }
        return self.model_copy(update=places)
