"""Run folders: what a folder's store holds, under which keys, and which runs may share a folder.

The kinds of entries, with their keys:

    benchmark   name: title, page, note, rule, hash and ids of its questions, in their order
    item        [benchmark, id]: the question without its pictures
    model       name: what was opened, and which part of its text is the answer
    method      spec: the resources that it had, if any
    setting     [benchmark, model, method, seed]: null; in the order in which the runs were started
    trace       [benchmark, model, method, seed, id]: the trace, without the data of its pictures
    wall        the same key: seconds of the run's time
    picture     sha256: the small copy, a data URL
    score       the same key: the fields of `AnswerScore` (`extracted` as "said"), the scorer's name, and what
                no scorer changes: `conclusion`, `kept` (whether the format is valid), `absent` stages,
                `lengths`, `sampled` and `others` (see `scorer.best_of_others`), `usage`, `wall` and, except
                in old folders, `candidates` and the kinds of its `warnings`
    failure     the same: why there is no trace; ignored once there is one
    scorer      [scorer, hash of the prompt, attempt]: its reply

Beside the store is `left-out.json`, see `EvalFolder.left_out`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, Field, TypeAdapter

from llava_cot.core.files import write_whole
from llava_cot.core.trace import Trace, Usage, WarningKind
from llava_cot.data.store import STORE_FILE, Store
from llava_cot.errors import DataError, StoreError
from llava_cot.evaluation.types import Benchmark, BenchmarkItem, RunKey, ScoredBy
from llava_cot.models.base import optional_sampling

if TYPE_CHECKING:
    from llava_cot.evaluation.plan import EvalPlan

LEFT_OUT_FILE = "left-out.json"
NO_ANSWER_YET = "it has no answer yet"
_PURPOSE = {"purpose": "evaluation"}


_RUN, _ID = TypeAdapter(RunKey), TypeAdapter(str)


def trace_key(run: RunKey, id: str) -> str:
    """Return the key of a question's trace and score."""
    return json.dumps([*run, id])


def read_trace_key(key: str) -> tuple[RunKey, str]:
    """Return the run and the question's id of a key."""
    *run, id = json.loads(key)
    return _RUN.validate_python(run), _ID.validate_python(id)


class _Benchmark(BaseModel):
    title: str
    page: str
    note: str
    rule: str
    hash: str
    ids: list[str]


class _Item(BaseModel):
    text: str
    options: list[str]
    answer: str | None
    skill: str
    extra: dict[str, Any]


class _Score(BaseModel):
    value: float = Field(ge=0, le=1)
    by: ScoredBy
    extracted: str = Field(alias="said")
    reason: str
    conclusion: str | None
    valid_format: bool = Field(alias="kept")
    absent: list[str]
    lengths: dict[str, int]
    sampled: bool
    others: float | None = Field(ge=0, le=1)
    usage: Usage
    wall: float = Field(allow_inf_nan=False)
    candidates: int | None = None
    warnings: list[WarningKind] = []


class EvalFolder(Store):
    """The store of one run folder."""

    shapes: ClassVar[Mapping[str, TypeAdapter[Any]]] = {
        "benchmark": TypeAdapter(_Benchmark),
        "item": TypeAdapter(_Item),
        "model": TypeAdapter(dict[Literal["opened", "answer"], str]),
        "method": TypeAdapter(dict[str, str]),
        "score": TypeAdapter(_Score),
        "failure": TypeAdapter(str),
        "picture": TypeAdapter(str),
    }

    @classmethod
    def existing(cls, folder: Path) -> EvalFolder:
        """Open a folder that has runs. Raises DataError if it has none."""
        if not (folder / STORE_FILE).is_file():
            raise DataError(f"{folder} holds no runs; `llava-cot eval ... --out {folder}` makes them")
        opened = cls(folder)
        if opened.settings().items() >= _PURPOSE.items():
            return opened
        opened.close()
        raise DataError(f"{folder} was not written by `llava-cot eval`; name a folder that was")

    def check(self, plan: EvalPlan) -> None:
        """Raise StoreError if the plan does not fit what the folder holds, DataError if it fits no folder."""
        names = [benchmark.name for benchmark in plan.benchmarks]
        for name in names:
            if names.count(name) > 1:
                raise DataError(f"two benchmarks have the name {name}; use a folder of runs for each")
        fmt, sampling = plan.fmt, plan.sampling
        settings = {
            **_PURPOSE,
            "format": ",".join(f"{s.name}={s.open} {s.close}" for s in fmt.stages)
            + f" to {fmt.final}"
            + (", thinking" if fmt.thinking else ""),
            "temperature": f"{sampling.temperature:g}",
            "top-p": f"{sampling.top_p:g}",
            "max-tokens": str(sampling.max_tokens),
            "limit": "none" if plan.limit is None else str(plan.limit),
        }
        settings |= {name: str(value) for name, value in plan.staging.model_dump(exclude_none=True).items()}
        for name, value in optional_sampling(sampling).items():  # folders of version 0.1.0 do not have these
            settings[name.replace("_", "-")] = f"{value:g}"
        self.match_settings(settings)
        for model in plan.models:
            self._check_model(model.name, model.spec, plan.answer_source)
        for spec in plan.specs:
            self._check_method(spec.name, plan.resources.describe(spec.method, spec.judge))

    def add_benchmark(self, benchmark: Benchmark, limit: int | None) -> list[str]:
        """Store the benchmark's first `limit` questions, or all, and return their ids.

        Raises StoreError if the folder has other questions under its name, or there are none, or two of them
        have the same id.
        """
        digest, ids = sha256(), []
        for item in islice(benchmark.items(), limit):
            digest.update(
                json.dumps([_item_json(item), [picture.name for picture in item.pictures]]).encode()
            )
            ids.append(item.id)
        if len(set(ids)) < len(ids):
            raise StoreError(
                f"the benchmark {benchmark.name} has two questions with the same id; give each its own"
            )
        if not ids:
            raise StoreError(f"the benchmark {benchmark.name} has no questions")
        rule, known = benchmark.rule.name, self.get(benchmark.name, "benchmark")
        if known is None:
            for item in islice(benchmark.items(), limit):
                self.put(json.dumps([benchmark.name, item.id]), "item", _item_json(item))
            about = {"title": benchmark.title, "page": benchmark.page, "note": benchmark.note, "rule": rule}
            self.put(benchmark.name, "benchmark", {**about, "hash": digest.hexdigest(), "ids": ids})
        elif known["hash"] != digest.hexdigest():
            raise StoreError(
                f"the folder has runs of {benchmark.name} with other questions; use the same file, or "
                "another folder"
            )
        elif known["rule"] != rule:
            raise StoreError(
                f"the folder has runs of {benchmark.name} scored by the rule {known['rule']}, and this run "
                f"uses {rule}; use the same, or another folder"
            )
        return ids

    def add_run(self, run: RunKey, spec: str, source: str, resources: Mapping[str, str]) -> None:
        """Store what a run is of: its model (`spec`, and where its answer is) and its method's resources."""
        self.put(run.model, "model", {"opened": spec, "answer": source})
        if resources:
            self.put(run.method, "method", dict(resources))
        self.put(json.dumps(run), "setting", None)

    def runs(self) -> list[RunKey]:
        """Return the folder's runs, in the order in which they were started."""
        with self.reading():
            return [_RUN.validate_python(json.loads(key)) for key in self.keys("setting")]

    def add_trace(self, key: str, trace: Trace, wall: float) -> None:
        """Store a trace, after its pictures and `wall`, the seconds that it took of the run."""
        for image in trace.question.images:
            if image.data is not None and self.get(image.sha256, "picture") is None:
                self.put(image.sha256, "picture", image.data)
        self.put(key, "wall", wall)
        without_data = {"question": {"images": {"__all__": {"data"}}}}
        self.put(key, "trace", trace.model_dump(mode="json", exclude=without_data))

    def trace(self, key: str, *, pictures: bool = False) -> Trace | None:
        """Return a trace, with its pictures if `pictures`; None if there is none."""
        found = self.get(key, "trace")
        if found is None:
            return None
        with self.reading():
            for image in found["question"]["images"] if pictures else ():
                image["data"] = self.get(image["sha256"], "picture")
            return Trace.model_validate(found, strict=False)

    def item(self, benchmark: str, id: str) -> BenchmarkItem:
        """Return a question without its pictures. Raises KeyError if there is none."""
        found = self.get(json.dumps([benchmark, id]), "item")
        if found is None:
            raise KeyError(id)
        return BenchmarkItem(
            id, found["text"], tuple(found["options"]), found["answer"], (), found["skill"], found["extra"]
        )

    def left_out(self, runs: Collection[RunKey] | None = None) -> dict[str, dict[str, int]]:
        """Count what counts as wrong without having been judged wrong, by reason, the most frequent first.

        "missing" has the questions without an answer, "not scored" the answers that no rule and no scorer
        decided. By default of all runs of the folder.
        """
        chosen = [run for run in self.runs() if runs is None or run in runs]
        found = {"missing": Counter[str](), "not scored": Counter[str]()}
        answered = set(self.keys("trace"))
        failed = dict(self.items("failure"))
        for run in chosen:
            for id in self.get(run.benchmark, "benchmark")["ids"]:
                key = trace_key(run, id)
                if key not in answered:
                    found["missing"][failed.get(key, NO_ANSWER_YET)] += 1
        for key, row in self.items("score"):
            if row["by"] == "unsettled" and read_trace_key(key)[0] in chosen:
                found["not scored"][row["reason"].partition("; the last: ")[0]] += 1
        return {what: dict(counts.most_common()) for what, counts in found.items() if counts}

    def warned(self, runs: Collection[RunKey]) -> dict[WarningKind, int]:
        """Count the answers of these runs that have warnings, by kind, the most frequent first."""
        kinds: Counter[WarningKind] = Counter(
            kind
            for key, row in self.items("score")
            if read_trace_key(key)[0] in runs
            for kind in row.get("warnings", ())
        )
        return dict(kinds.most_common())

    def write_left_out(self, given_up: Mapping[str, str]) -> None:
        """Write `left_out` of all runs to the folder, as JSON, and why models were given up in the last run.

        There is no file if nothing is left out.
        """
        file = self._file.parent / LEFT_OUT_FILE
        found: dict[str, Mapping[str, Any]] = {**self.left_out()}
        if given_up:
            found["given up"] = given_up
        if found:
            write_whole(file, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        else:
            file.unlink(missing_ok=True)

    def _check_model(self, name: str, spec: str, source: str) -> None:
        known = self.get(name, "model") or {"opened": spec, "answer": source}
        if known["opened"] != spec:
            raise StoreError(
                f"the model {name} of this folder is {known['opened']}, and this run opens {spec}; give it "
                "another name, as in --model NAME=MODEL"
            )
        if known["answer"] != source:
            raise StoreError(
                f"this folder scores the {known['answer']} of the model {name}, and this run the {source}; "
                f"use --answer {known['answer']}, or give the model another name, as in --model NAME=MODEL"
            )

    def _check_method(self, name: str, resources: Mapping[str, str]) -> None:
        if all(run.method != name for run in self.runs()):
            return
        known = self.get(name, "method") or {}
        for option in {**resources, **known}:
            was, now = known.get(option, "none"), resources.get(option, "none")
            if was != now:
                raise StoreError(
                    f"the folder has runs of {name} with {option} {was}, and this run has {now}; use the "
                    "same, or another folder"
                )


def _item_json(item: BenchmarkItem) -> dict[str, Any]:
    return {
        "id": item.id, "text": item.text, "options": list(item.options), "answer": item.answer,
        "skill": item.skill, "extra": dict(item.extra),
    }  # fmt: skip
