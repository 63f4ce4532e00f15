"""Worked examples from a YAML file.

The file is a list; each example has `image` or `images` (paths below the file's folder), `question`,
`options` if there are any, and `answer`, in the words in which the model is to answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel, model_validator

from llava_cot.core.files import make_recipe, path_inside, read_yaml
from llava_cot.core.images import ImageLimits, LoadedImage, load_image
from llava_cot.core.question import Question, question_text
from llava_cot.errors import DataError
from llava_cot.search.resources import Example

_WHAT = "file of examples"


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"it must be text, and YAML reads {value!r}; put it in quotes")
    if not value.strip():
        raise ValueError("it is empty; write some text")
    return value.strip()


_Text = Annotated[str, BeforeValidator(_text)]


class _Shown(BaseModel):
    model_config = ConfigDict(extra="forbid")

    image: _Text | None = None
    images: list[_Text] = Field(default_factory=list)
    question: _Text
    options: list[_Text] = Field(default_factory=list)
    answer: _Text

    @model_validator(mode="after")
    def _check(self) -> _Shown:
        if self.image is not None and self.images:
            raise ValueError("it has both image and images; give one of them")
        question_text(Question(self.question, options=tuple(self.options)))
        return self


class _File(RootModel[list[_Shown]]):
    pass


def load_examples(path: str | Path, limits: ImageLimits | None = None) -> tuple[Example, ...]:
    """The examples of a file, in its order, with their pictures. Raises DataError with one sentence."""
    loaded = read_yaml(path, _WHAT)
    if not isinstance(loaded, list) or not loaded:
        raise DataError(
            f"the {_WHAT} {path} is not a list; write examples, each with image, question and answer"
        )
    shown = make_recipe(loaded, _File, path, _WHAT).root
    return tuple(_example(each, i, Path(path), limits or ImageLimits()) for i, each in enumerate(shown))


def _example(shown: _Shown, i: int, path: Path, limits: ImageLimits) -> Example:
    names = shown.images if shown.image is None else [shown.image]
    try:
        pictures = tuple(_picture(name, path.parent, limits) for name in names)
    except ValueError as error:
        raise DataError(f"the {_WHAT} {path}: [{i}]: {error}") from None
    return Example(Question(shown.question, pictures, options=tuple(shown.options)), shown.answer)


def _picture(name: str, folder: Path, limits: ImageLimits) -> LoadedImage:
    return load_image(path_inside(folder, name), limits=limits, name=name)
