"""Questions of school books and exams: AI2D (diagrams), ScienceQA and GeoQA+ (plane geometry)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from llava_cot.data.record import Picture, Record, Turn
from llava_cot.data.sources.base import LazyPicture, Source, letter, picture, text
from llava_cot.data.sources.chats import read_conversation
from llava_cot.data.sources.row_files import json_lines, json_pairs, json_value, row_errors, text_lines

_GEOQA_PLUS = "opensource/geoqa+.jsonl"
_TOPICS = ("subject", "topic", "grade")  # of ScienceQA's problems


def _read_ai2d(root: Path, split: str) -> Iterator[Record]:
    """The folder `ai2d` of the authors' archive, with their list of test pictures beside `questions`.

    Many questions speak of letters that the authors put in place of a diagram's words. The archive has only
    the words' places, so such a picture is drawn when it is read.
    """
    test = {line.strip() for _, line in text_lines(root / "ai2d_test_ids.csv")}
    for file in sorted((root / "questions").glob("*.json"), key=_page_number):
        page = json_value(file)
        with row_errors(file, "all of it", page):
            name = text(page["imageName"])
            if (name.removesuffix(".png") in test) != (split == "test"):
                continue
            original = picture("ai2d", root, f"images/{name}")
            for question, about in page["questions"].items():
                # The options that differ; "{}" stands for none.
                options = tuple(dict.fromkeys(text(it) for it in about["answerTexts"] if it != "{}"))
                right = options.index(text(about["answerTexts"][about["correctAnswer"]]))
                yield AI2D.record(
                    id=f"{split}/{text(about['questionId'])}",
                    turns=(Turn(question, letter(right, options), options),),
                    pictures=(_lettered(root, name) if about["abcLabel"] else original,),
                    extra={"type": "letters" if about["abcLabel"] else "words"},
                )


def _page_number(file: Path) -> tuple[int, str]:
    """Orders "2.png.json" before "10.png.json"."""
    number = file.name.split(".")[0]
    return (int(number) if number.isdecimal() else 0, file.name)


def _lettered(root: Path, name: str) -> Picture:
    """The diagram with letters in place of its words."""
    original = picture("ai2d", root, f"images/{name}").file or Path()
    boxes = json_value(root / "annotations" / f"{name}.json")["text"].values()
    letters = [
        (text(box["replacementText"]), (left, top, right, bottom))
        for box in boxes
        for (left, top), (right, bottom) in [box["rectangle"]]
        if left < right and top < bottom  # a few boxes are empty
    ]
    return LazyPicture(f"ai2d/abc_images/{name}", make=partial(_draw_letters, original, letters))


def _draw_letters(original: Path, letters: list[tuple[str, tuple[float, float, float, float]]]) -> bytes:
    """A PNG of the diagram with letters in boxes: left, top, right, bottom in pixels. Raises ImageError."""
    from PIL import ImageDraw, ImageFont

    from llava_cot.core.images import load_image

    image = load_image(original).pil.copy()
    pen = ImageDraw.Draw(image)
    for sign, (left, top, right, bottom) in letters:
        pen.rectangle((left, top, right, bottom), fill="white", outline="black")
        height = min(bottom - top, 1.5 * (right - left) / len(sign))
        font = ImageFont.load_default(max(height, 6.0))  # smaller ones cannot be read
        pen.text(((left + right) / 2, (top + bottom) / 2), sign, fill="black", font=font, anchor="mm")
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def _read_scienceqa(root: Path, split: str) -> Iterator[Record]:
    """The folder `data/scienceqa` of the authors' repository, with the pictures under `images`.

    Problems without a picture are left out, as in LLaVA-CoT-100k.
    """
    chosen = set(json_value(root / "pid_splits.json")[split])
    file = root / "problems.json"
    for place, (id, problem) in json_pairs(file):
        with row_errors(file, place, problem):
            if id not in chosen or not problem["image"]:
                continue
            options = tuple(text(choice) for choice in problem["choices"])
            # What the data set calls a hint is part of the question: a passage, or how to read the picture.
            question = "\n".join(filter(None, (text(problem["hint"]), text(problem["question"]))))
            hints = "\n\n".join(filter(None, (text(problem["lecture"]), text(problem["solution"]))))
            yield SCIENCEQA.record(
                id=f"{split}/{id}",
                turns=(Turn(question, letter(problem["answer"], options), options, hints or None),),
                pictures=(picture("scienceqa", root, f"images/{split}/{id}/{text(problem['image'])}"),),
                extra={"type": problem["category"]} | {key: problem[key] for key in _TOPICS},
            )


def _read_geoqa_plus(root: Path, split: str) -> Iterator[Record]:
    """GeoQA+ as InternVL publishes it: conversations in the layout of its folder `playground`.

    LLaVA-CoT-100k names its pictures as this version does ("geoqa+/images/N.png"); the release of GeoQA+'s
    own authors is in Chinese, with the pictures in pickles. The options stand in the question's text.
    """
    file = root / _GEOQA_PLUS
    for number, (place, row) in enumerate(json_lines(file)):
        with row_errors(file, place, row):
            conversation = read_conversation(row)
            paths = [f"data/geoqa+/{text(image)}" for image in conversation.images]
            yield GEOQA_PLUS.record(
                id=f"{split}/{text(row['id'])}-{number}",
                turns=conversation.turns,
                pictures=tuple(picture("geoqa_plus", root, path) for path in paths),
                extra={},
            )


AI2D = Source(
    name="ai2d",
    title="AI2D",
    home="https://prior.allenai.org/projects/diagram-understanding",
    license="AI2 licence for non-commercial use; the data may not be passed on",
    needs=("questions/*.json", "annotations/*.json", "images", "ai2d_test_ids.csv"),
    read=_read_ai2d,
    splits=("train", "test"),
)
SCIENCEQA = Source(
    name="scienceqa",
    title="ScienceQA",
    home="https://github.com/lupantech/ScienceQA",
    license="CC-BY-NC-SA-4.0",
    needs=("problems.json", "pid_splits.json", "images/{split}"),
    read=_read_scienceqa,
    splits=("train", "val", "test"),
)
GEOQA_PLUS = Source(
    name="geoqa_plus",
    title="GeoQA+ (InternVL's version)",
    home="https://internvl.readthedocs.io/en/latest/internvl1.2/reproduce.html",
    license="Apache-2.0 by InternVL's card; not stated by GeoQA+'s authors",
    needs=(_GEOQA_PLUS, "data/geoqa+/images"),
    read=_read_geoqa_plus,
)
