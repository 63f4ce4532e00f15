"""`Results` out of the stores of folders: scores and questions in memory, traces when they are asked for.

Owns the reading, and what makes folders fit together. How things are kept is `kept.py`'s subject.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

from llava_cot.core.trace import Trace
from llava_cot.data.store import STORE_FILE, Store
from llava_cot.errors import DataError
from llava_cot.evaluation.benchmarks.rules_by_name import rule_named
from llava_cot.evaluation.kept import (
    PURPOSE,
    item_of,
    kept_trace,
    key_of,
    no_result,
    read_key,
    read_setting,
    result,
)
from llava_cot.evaluation.results import QuestionResult, RunKey, listed
from llava_cot.evaluation.types import BenchmarkItem, Metric, ScoredItem

_UNREAD = BenchmarkItem("", "")  # keeps a question's place in the order
_NOT_ASKED = "it has not been asked yet"


class StoredResults:
    """The runs of some folders. A context manager, which holds the folders' stores until its end.

    A question that was not asked yet counts as one on which the model failed. Raises DataError or StoreError
    for a folder without runs, one that another process works on, and folders that do not fit together.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._benchmarks: dict[str, dict[str, Any]] = {}
        self._items: dict[str, dict[str, BenchmarkItem]] = {}
        self._found: dict[RunKey, dict[str, QuestionResult]] = {}
        self._stores: dict[RunKey, Store] = {}
        self._opened: dict[str, str] = {}  # by model
        self._beside: dict[str, dict[str, str]] = {}  # by method
        self._order: list[RunKey] = []
        self._rule = cache(rule_named)
        with ExitStack() as stack:
            for folder in folders:
                self._read(folder, stack.enter_context(_opened(folder)))
            self._close = stack.pop_all()

    @property
    def settings(self) -> Sequence[RunKey]:
        return [setting for setting in self._order if self._found.get(setting)]

    def results(self, setting: RunKey) -> Sequence[QuestionResult]:
        found = self._found[setting]
        return [
            found.get(item.id) or no_result(item.id, item.skill, _NOT_ASKED)
            for item in self._items[setting.benchmark].values()
        ]

    def metrics(self, setting: RunKey) -> Sequence[Metric]:
        items = self._items[setting.benchmark]
        rule = self._rule(self._benchmarks[setting.benchmark]["rule"])
        return rule.metrics([ScoredItem(items[found.item], found.score) for found in self.results(setting)])

    def headline(self, benchmark: str) -> tuple[str, ...]:
        return self._rule(self._benchmarks[benchmark]["rule"]).headline

    def beside(self, setting: RunKey) -> Mapping[str, str]:
        return self._beside[setting.method]

    def note(self, benchmark: str) -> str:
        return str(self._benchmarks[benchmark]["note"])

    def item(self, benchmark: str, id: str) -> BenchmarkItem:
        return self._items[benchmark][id]

    def trace(self, setting: RunKey, item: str) -> Trace | None:
        return kept_trace(self._stores[setting], key_of(setting, item), pictures=True)

    def close(self) -> None:
        self._close.close()

    def __enter__(self) -> StoredResults:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, folder: Path, store: Store) -> None:
        for name, kept in store.items("benchmark"):
            known = self._benchmarks.setdefault(name, kept)
            if (known["hash"], known["rule"]) != (kept["hash"], kept["rule"]):
                raise DataError(
                    f"{folder} has other questions of {name}, or another rule, than a folder before it; "
                    "report on them apart"
                )
            self._items.setdefault(name, dict.fromkeys(kept["ids"], _UNREAD))
        for key, kept in store.items("item"):
            benchmark, id = json.loads(key)
            if id in self._items.get(benchmark, ()):
                self._items[benchmark][id] = item_of(id, kept)
        for key in store.keys("setting"):
            setting = read_setting(key)
            if setting in self._stores:
                raise DataError(
                    f"{folder} has runs that a folder before it has too: {setting.model}, {setting.method} "
                    f"on {setting.benchmark}, seed {setting.seed}; report on them apart"
                )
            self._stores[setting], self._found[setting] = store, {}
            self._order.append(setting)
            self._agree(folder, store, setting)
        for key, why in store.items("failure"):
            setting, id = read_key(key)
            self._found[setting][id] = no_result(id, self._items[setting.benchmark][id].skill, why)
        for key, kept in store.items("score"):
            setting, id = read_key(key)
            self._found[setting][id] = result(id, self._items[setting.benchmark][id].skill, kept)

    def _agree(self, folder: Path, store: Store, setting: RunKey) -> None:
        """Raises DataError if a folder before it has another model of that name, or other things beside."""
        opened = store.get(setting.model, "model")["opened"]
        was = self._opened.setdefault(setting.model, opened)
        if was != opened:
            raise DataError(
                f"the model {setting.model} in {folder} is {opened}, and in a folder before it {was}; report "
                "on them apart"
            )
        beside = store.get(setting.method, "method") or {}
        had = self._beside.setdefault(setting.method, beside)
        if had != beside:
            raise DataError(
                f"the method {setting.method} in {folder} had {listed(beside)}, and in a folder before it "
                f"{listed(had)}; report on them apart"
            )


def _opened(folder: Path) -> Store:
    if not (folder / STORE_FILE).is_file():
        raise DataError(f"{folder} holds no runs; `llava-cot eval ... --out {folder}` makes them")
    store = Store(folder)
    if store.settings().items() >= PURPOSE.items():
        return store
    store.close()
    raise DataError(f"what is kept in {folder} are no runs of `llava-cot eval`; name the folder of one")
