"""What a folder of runs keeps in its store, and under which keys.

Owns the kinds of values, their JSON and what makes two runs fit into one folder. Knows no model and asks
nothing. The kinds:

    benchmark   by name: title, note, rule, hash and ids of its questions, in their order
    item        by [benchmark, id]: the question without its pictures
    model       by name: what was opened, and which part of its text is the answer
    method      by its spec: what it had besides the model (`Equipment.told`), if anything
    setting     by [benchmark, model, method, seed]: nothing; in the order in which they were asked for
    trace       by [benchmark, model, method, seed, id]: the trace, without the data of its pictures
    wall        by the same: seconds (`Share`)
    picture     by sha256: the small copy, a data URL
    score       by the key of its trace: a row, as `row` makes it
    failure     by the same: why there is no trace; of no account once there is one
    scorer      by [scorer, hash of the prompt, attempt]: its reply
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from hashlib import sha256
from itertools import islice
from typing import Any

from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Trace, Usage
from llava_cot.data.store import Store
from llava_cot.errors import StoreError
from llava_cot.evaluation.answers import AnswerSource
from llava_cot.evaluation.results import QuestionResult, RunKey
from llava_cot.evaluation.types import AnswerScore, Benchmark, BenchmarkItem
from llava_cot.models.base import Sampling

_SCORE = ("value", "by", "said", "reason", "scorer")
PURPOSE = {"purpose": "evaluation"}


def setting_key(setting: RunKey) -> str:
    return json.dumps([setting.benchmark, setting.model, setting.method, setting.seed])


def key_of(setting: RunKey, id: str) -> str:
    return json.dumps([setting.benchmark, setting.model, setting.method, setting.seed, id])


def read_setting(key: str) -> RunKey:
    return RunKey(*json.loads(key))


def read_key(key: str) -> tuple[RunKey, str]:
    benchmark, model, method, seed, id = json.loads(key)
    return RunKey(benchmark, model, method, seed), id


def questions(benchmark: Benchmark, limit: int | None) -> Iterable[BenchmarkItem]:
    """The benchmark's first `limit` questions, all if that is None."""
    return islice(benchmark.items(), limit)


def keep_benchmark(store: Store, benchmark: Benchmark, limit: int | None) -> list[str]:
    """Keep the questions; their ids.

    Raises StoreError if the folder has other ones under the benchmark's name, or there are none, or two of
    one id.
    """
    digest, ids = sha256(), []
    for item in questions(benchmark, limit):
        digest.update(json.dumps([_plain(item), [picture.name for picture in item.pictures]]).encode())
        ids.append(item.id)
    if len(set(ids)) < len(ids):
        raise StoreError(f"the benchmark {benchmark.name} has two questions of one id; name them apart")
    if not ids:
        raise StoreError(f"the benchmark {benchmark.name} has no questions")
    now = {
        "title": benchmark.title, "page": benchmark.page, "note": benchmark.note, "rule": benchmark.rule.name,
        "hash": digest.hexdigest(), "ids": ids,
    }  # fmt: skip
    known = store.get(benchmark.name, "benchmark")
    if known is None:
        for item in questions(benchmark, limit):
            store.put(json.dumps([benchmark.name, item.id]), "item", _plain(item))
        store.put(benchmark.name, "benchmark", now)
        return ids
    if known["hash"] != now["hash"]:
        raise StoreError(
            f"the folder has runs of {benchmark.name} with other questions; go on with the same file, or "
            "name another folder"
        )
    if known["rule"] != now["rule"]:
        raise StoreError(
            f"the folder has runs of {benchmark.name} scored by the rule {known['rule']}, and not "
            f"{now['rule']}; go on with the same, or name another folder"
        )
    return ids


def check_model(store: Store, name: str, opened: str, way: AnswerSource) -> None:
    """Raises StoreError if the folder has another model of this name, or takes other text for its answer."""
    known = store.get(name, "model") or {"opened": opened, "answer": way}
    if known["opened"] != opened:
        raise StoreError(
            f"the model {name} of this folder is {known['opened']}, and not {opened}; call this one by "
            "another name, as in --model NAME=MODEL"
        )
    if known["answer"] != way:
        raise StoreError(
            f"of the model {name} the folder scores the {known['answer']}, and not the {way}; go on with "
            f"--answer {known['answer']}, or call the model by another name, as in --model NAME=MODEL"
        )


def keep_model(store: Store, name: str, opened: str, way: AnswerSource) -> None:
    store.put(name, "model", {"opened": opened, "answer": way})


def check_method(store: Store, name: str, told: Mapping[str, str]) -> None:
    """Raises StoreError if the folder has runs of this method with other resources."""
    known = store.get(name, "method")
    if known is None:
        if all(read_setting(key).method != name for key in store.keys("setting")):
            return
        known = {}
    for what in {**told, **known}:
        was, now = known.get(what, "none"), told.get(what, "none")
        if was != now:
            raise StoreError(
                f"the folder has runs of {name} with {what} {was}, and not {now}; go on with the same, or "
                "name another folder"
            )


def keep_method(store: Store, name: str, told: Mapping[str, str]) -> None:
    if told:
        store.put(name, "method", dict(told))


def keep_trace(store: Store, key: str, trace: Trace, wall: float) -> None:
    """The trace last, so that all that belongs to it is there when it is."""
    for image in trace.question.images:
        if image.data is not None and store.get(image.sha256, "picture") is None:
            store.put(image.sha256, "picture", image.data)
    store.put(key, "wall", wall)
    store.put(
        key, "trace", trace.model_dump(mode="json", exclude={"question": {"images": {"__all__": {"data"}}}})
    )


def kept_trace(store: Store, key: str, *, pictures: bool = False) -> Trace | None:
    kept = store.get(key, "trace")
    if kept is None:
        return None
    for image in kept["question"]["images"] if pictures else ():
        image["data"] = store.get(image["sha256"], "picture")
    return Trace.model_validate(kept, strict=False)


def row(score: AnswerScore, scorer: str | None, facts: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the kind "score". `facts` are what does not depend on the score: `conclusion`, `kept`,
    `absent`, `lengths`, `sampled`, `others` (`answers.best_of_others`), `usage`, `wall`, and, but in older
    ones, `candidates`."""
    return {**facts, **asdict(score), "scorer": scorer}


def facts_of(kept: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a row, for another score."""
    return {name: value for name, value in kept.items() if name not in _SCORE}


def result(id: str, skill: str, kept: Mapping[str, Any]) -> QuestionResult:
    """What a row says."""
    return QuestionResult(
        item=id,
        skill=skill,
        score=AnswerScore(kept["value"], kept["by"], kept["said"], kept["reason"]),
        conclusion=kept["conclusion"],
        kept=kept["kept"],
        absent=tuple(kept["absent"]),
        lengths=kept["lengths"],
        usage=Usage(**kept["usage"]),
        wall=kept["wall"],
        oracle=_oracle(kept),
        candidates=kept.get("candidates"),
    )


def no_result(id: str, skill: str, why: str) -> QuestionResult:
    """A question that the model did not answer, which counts as wrong."""
    return QuestionResult(
        id, skill, AnswerScore(0.0, "failed", reason=why), None, False, (), {}, Usage(), failure=why
    )


def kept_item(store: Store, benchmark: str, id: str) -> BenchmarkItem:
    """Raises KeyError if there is none."""
    kept = store.get(json.dumps([benchmark, id]), "item")
    if kept is None:
        raise KeyError(id)
    return item_of(id, kept)


def item_of(id: str, kept: Mapping[str, Any]) -> BenchmarkItem:
    return BenchmarkItem(
        id, kept["text"], tuple(kept["options"]), kept["answer"], (), kept["skill"], kept["extra"]
    )


def settings(fmt: StageFormat, sampling: Sampling, limit: int | None) -> dict[str, str]:
    """What all runs of a folder have in common, for `Store.agree`."""
    return {
        **PURPOSE,
        "format": ",".join(f"{s.name}={s.open} {s.close}" for s in fmt.stages) + f" to {fmt.final}",
        "temperature": f"{sampling.temperature:g}",
        "top-p": f"{sampling.top_p:g}",
        "max-tokens": str(sampling.max_tokens),
        "limit": "none" if limit is None else str(limit),
    }


def _oracle(kept: Mapping[str, Any]) -> float | None:
    if not kept["sampled"]:
        return None
    if kept["value"] >= 1:
        return 1.0
    return None if kept["others"] is None else max(kept["value"], kept["others"])


def _plain(item: BenchmarkItem) -> dict[str, Any]:
    return {
        "id": item.id, "text": item.text, "options": list(item.options), "answer": item.answer,
        "skill": item.skill, "extra": dict(item.extra),
    }  # fmt: skip
