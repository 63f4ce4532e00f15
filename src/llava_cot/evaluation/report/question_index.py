"""The questions of a report: an index of all, and the traces of one at a time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from llava_cot.core.trace import Trace
from llava_cot.core.wording import plural, printable
from llava_cot.evaluation.report.arms import Arm, arms_on
from llava_cot.evaluation.results import QuestionResult, RunResults

_TEXT, _CONCLUSION = 4000, 600  # characters of a question and of a conclusion in the index


def question_ids(arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """Return (benchmark, id) of all questions, in order."""
    return [
        (benchmark, id)
        for benchmark in dict.fromkeys(arm.benchmark for arm in arms)
        for id in arms_on(arms, benchmark)[0].values
    ]


def drawing_order(ids: Sequence[tuple[str, str]]) -> list[int]:
    """Return the questions' numbers: each benchmark's in a random order (fixed seed), benchmarks in turn."""
    groups: dict[str, list[int]] = {}
    for number, (benchmark, _) in enumerate(ids):
        groups.setdefault(benchmark, []).append(number)
    rng = random.Random(0)
    ranked = []
    for numbers in groups.values():
        rng.shuffle(numbers)
        ranked += list(enumerate(numbers))
    return [number for _, number in sorted(ranked)]


def question_traces(
    results: RunResults, arms: Sequence[Arm], id: str, decided: dict[Arm, Counter[str]]
) -> dict[str, Trace]:
    """Return a question's traces under the arms of its benchmark, and count how their duels were decided.

    Keys are "ARM.SEED", both as numbers within the benchmark.
    """
    found = {}
    for place, arm in enumerate(arms):
        for number, key in enumerate(arm.keys):
            trace = results.trace(key, id)
            if trace is not None:
                found[f"{place}.{number}"] = trace
                decided[arm].update(verdict.decided_by for verdict in trace.verdicts)
    return found


def index_entry(
    results: RunResults, arms: Sequence[Arm], benchmark: str, id: str, pictures: list[int] | None
) -> dict[str, Any]:
    """Return a question with its answers under all arms, as plain JSON.

    `pictures` are their numbers in the page, None where its traces and pictures are left out.
    """
    item = results.item(benchmark, id)
    numbered = [(number, arm) for number, arm in enumerate(arms) if arm.benchmark == benchmark]
    return {
        "benchmark": benchmark,
        "id": id,
        "skill": item.skill,
        "text": _shortened(item.text, _TEXT),
        "options": [_shortened(option, _CONCLUSION) for option in item.options],
        "answer": None if item.answer is None else _shortened(item.answer, _CONCLUSION),
        "pictures": pictures,
        "answers": [
            {"arm": number, "key": f"{place}.{n}", "seed": key.seed, **_answer(by_id[id])}
            for place, (number, arm) in enumerate(numbered)
            for n, (key, by_id) in enumerate(zip(arm.keys, arm.by_id, strict=True))
            if id in by_id
        ],
    }


def _answer(result: QuestionResult) -> dict[str, Any]:
    """An answer as JSON, without empty fields: there are tens of thousands of these."""
    texts = {
        "said": result.score.extracted,
        "conclusion": result.conclusion,
        "reason": result.score.reason,
        "failure": result.failure,
    }
    shown = {key: _shortened(text, _CONCLUSION) for key, text in texts.items() if text}
    return {"value": round(result.score.value, 4), "by": result.score.by, **shown}


def _shortened(text: str, most: int) -> str:
    text = printable(text.encode("utf-8", "replace").decode())
    return text if len(text) <= most else f"{text[:most]} … ({plural(len(text) - most, 'more character')})"
