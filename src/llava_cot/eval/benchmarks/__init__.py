"""Opening a benchmark by its name."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from llava_cot.data.records import DataError
from llava_cot.data.sources.made import MadePicture
from llava_cot.eval.items import Benchmark, Item, Metric, Rule, Score, Scored, Unit
from llava_cot.models.base import Prompt

_SIZE = 1000


class Exact:
    name = "exact"
    headline: tuple[str, ...] = ("accuracy",)

    def match(self, item: Item, conclusion: str) -> Score | None:
        return Score(float(conclusion.strip() == item.answer), "match", conclusion.strip())

    def prompt(self, item: Item, conclusion: str) -> Prompt:
        raise NotImplementedError

    def read(self, item: Item, conclusion: str, reply: str) -> Score | None:
        raise NotImplementedError

    def metrics(self, scored: Sequence[Scored]) -> list[Metric]:
        units = (Unit(s.item.id, s.score.value, s.item.skill, s.item.id) for s in scored)
        return [Metric("accuracy", tuple(units))]


def open_benchmark(name: str, root: Path | None = None, rule: str | None = None) -> Benchmark:
    kind, _, split = name.partition(":")
    if kind != "scenes":
        raise DataError(f"there is no benchmark {name!r}; choose scenes")
    return Benchmark(name, "Scenes", "", lambda: _scenes(split or "test"), Exact())


def rule_named(name: str) -> Rule:
    if name != Exact.name:
        raise DataError(f"there is no rule {name!r}; choose exact")
    return Exact()


def _scenes(split: str) -> Iterator[Item]:
    from llava_cot.scenes.write import make_items

    for item in make_items(split, 0, _SIZE):
        picture = MadePicture(f"{item.id}.png", make=partial(_png, item))
        yield Item(
            item.id, item.question.text, item.question.options, item.answer, (picture,), item.question.type
        )


def _png(item: object) -> bytes:
    from llava_cot.scenes.write import Item as Scene

    assert isinstance(item, Scene)
    data = io.BytesIO()
    item.picture().save(data, "PNG")
    return data.getvalue()
