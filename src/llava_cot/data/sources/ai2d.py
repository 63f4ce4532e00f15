"""AI2D: multiple choice about diagrams of school books.

Owns its layout: the folder `ai2d` of the authors' archive, with their list of test pictures beside
`questions`. Many questions speak of letters that the authors put in place of a diagram's words;
the archive has the words' places only, so such a picture is drawn when it is read.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava_cot.data.record import Picture, Record, Turn
from llava_cot.data.sources.base import Source, each, json_value, letter, picture, text, text_lines

LICENCE = "AI2 licence for non-commercial use; the data may not be passed on"


@dataclass(frozen=True)
class LetteredPicture(Picture):
    """A diagram with letters in place of its words: their boxes in pixels, left, top, right, bottom."""

    original: Path = Path()
    letters: tuple[tuple[str, tuple[float, float, float, float]], ...] = ()

    def read(self) -> bytes:
        """The bytes of a PNG. Raises OSError and ImageError."""
        from PIL import ImageDraw, ImageFont

        from llava_cot.core.images import load_image

        image = load_image(self.original).pil.copy()
        pen = ImageDraw.Draw(image)
        for sign, (left, top, right, bottom) in self.letters:
            pen.rectangle((left, top, right, bottom), fill="white", outline="black")
            height = min(bottom - top, 1.5 * (right - left) / len(sign))
            font = ImageFont.load_default(max(height, 6.0))  # smaller ones are no longer letters
            pen.text(((left + right) / 2, (top + bottom) / 2), sign, fill="black", font=font, anchor="mm")
        data = io.BytesIO()
        image.save(data, "PNG")
        return data.getvalue()


def read(root: Path, split: str) -> Iterator[Record]:
    test = {line.strip() for _, line in text_lines(root / "ai2d_test_ids.csv")}

    def make(page: dict[str, Any]) -> Iterator[Record]:
        name = text(page["imageName"])
        if (name.removesuffix(".png") in test) != (split == "test"):
            return
        original = picture("ai2d", root, f"images/{name}")
        for question, about in page["questions"].items():
            options = _options(about["answerTexts"])
            yield Record(
                id=f"ai2d/{split}/{text(about['questionId'])}",
                turns=(
                    Turn(
                        question=question,
                        answer=letter(
                            options.index(text(about["answerTexts"][about["correctAnswer"]])), options
                        ),
                        options=options,
                    ),
                ),
                pictures=(_lettered(root, name) if about["abcLabel"] else original,),
                source="ai2d",
                licence=LICENCE,
                extra={"type": "letters" if about["abcLabel"] else "words"},
            )

    for file in sorted((root / "questions").glob("*.json"), key=_number):
        yield from each(file, [("all of it", json_value(file))], make)


def _options(texts: list[str]) -> tuple[str, ...]:
    """The options that differ; "{}" stands for none."""
    return tuple(dict.fromkeys(text(option) for option in texts if option != "{}"))


def _number(file: Path) -> tuple[int, str]:
    """Orders "2.png.json" before "10.png.json"."""
    number = file.name.split(".")[0]
    return (int(number) if number.isdecimal() else 0, file.name)


def _lettered(root: Path, name: str) -> LetteredPicture:
    boxes = json_value(root / "annotations" / f"{name}.json")["text"].values()
    letters = []
    for box in boxes:
        (left, top), (right, bottom) = box["rectangle"]
        if left < right and top < bottom:  # a few boxes are empty
            letters.append((text(box["replacementText"]), (left, top, right, bottom)))
    return LetteredPicture(
        f"ai2d/abc_images/{name}",
        original=picture("ai2d", root, f"images/{name}").file or Path(),
        letters=tuple(letters),
    )


AI2D = Source(
    name="ai2d",
    title="AI2D",
    home="https://prior.allenai.org/projects/diagram-understanding",
    licence=LICENCE,
    needs=("questions/*.json", "annotations/*.json", "images", "ai2d_test_ids.csv"),
    read=read,
    splits=("train", "test"),
)
