"""Scenes and easy-VQA: benchmarks that need no file of the user's."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from llava_cot.data.record import Picture
from llava_cot.data.sources.row_files import json_value
from llava_cot.errors import DataError, missing_package
from llava_cot.evaluation.scoring.free_text import WORDS
from llava_cot.evaluation.types import Benchmark, BenchmarkItem

SCENES = 2_000  # questions; the standard error of a score is then about 1 point
_SPLITS = ("test", "validation")
_EASY_VQA = "https://github.com/vzhou842/easy-VQA"
_KINDS = {"yes": "presence", "no": "presence", "circle": "shape", "rectangle": "shape", "triangle": "shape"}


def scenes(split: str = "test") -> Benchmark:
    """Open the first scenes of a split; training uses neither split. Raises DataError for another split."""
    if split not in _SPLITS:
        raise DataError(f"scenes has no split {split!r} to evaluate on; it has {' and '.join(_SPLITS)}")
    return Benchmark(
        name="scenes" if split == "test" else f"scenes:{split}",
        title=f"Scenes, {split}",
        page="docs/explanation/scenes-and-mini.md",
        items=partial(_scenes, split),
        rule=WORDS,
    )


def _scenes(split: str) -> Iterator[BenchmarkItem]:
    from llava_cot.data.sources.rendered import read_scenes
    from llava_cot.scenes.questions import VALUES

    for record in read_scenes(split, 0, SCENES):
        turn = record.turns[0]
        answers = next((values for values in VALUES.values() if turn.answer in values), ())
        extra = {"answers": list(answers)} if answers else {}
        yield BenchmarkItem(
            record.id, turn.question, turn.options, turn.answer, record.pictures, record.extra["type"], extra
        )


def easy_vqa() -> Benchmark:
    """Open the test split of the package easy-vqa. Raises DataError if it is not installed."""
    found = importlib.util.find_spec("easy_vqa")
    places = list(found.submodule_search_locations or ()) if found else []
    if not places:
        raise DataError(missing_package("easy-vqa", "the package of that name", extra="eval"))
    return Benchmark(
        name="easy-vqa",
        title="easy-VQA, test",
        page=_EASY_VQA,
        items=partial(_easy_vqa, Path(places[0]) / "data"),
        rule=WORDS,
    )


def _easy_vqa(data: Path) -> Iterator[BenchmarkItem]:
    """Read `test/questions.json`, a list of [question, answer, number of the picture] with 13 answers."""
    answers: dict[str, list[str]] = {}
    for answer in (data / "answers.txt").read_text(encoding="utf-8").split():
        answers.setdefault(_kind(answer), []).append(answer)
    for number, (question, answer, image) in enumerate(json_value(data / "test/questions.json")):
        name = f"easy-vqa/test/images/{image}.png"
        yield BenchmarkItem(
            id=f"easy-vqa/test-{number}",
            text=question,
            answer=answer,
            pictures=(Picture(name, data / f"test/images/{image}.png"),),
            skill=_kind(answer),
            extra={"cluster": name, "answers": answers[_kind(answer)]},
        )


def _kind(answer: str) -> str:
    return _KINDS.get(answer, "color")
