"""Every question with what became of it, as a page can hold it: an index, and blocks to open one by one.

Owns their shape and their size. The index is small and has all questions; a block has the traces of one
question under all settings as HTML, compressed. Traces are read one question at a time.
"""

from __future__ import annotations

import json
import random
import zlib
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from llava_cot.core.trace import Trace
from llava_cot.core.wording import plural, printable
from llava_cot.evaluation.report.arms import Arm, on
from llava_cot.evaluation.results import QuestionResult, RunResults
from llava_cot.view.html import image_data_url, trace_fragment

MOST = 60_000_000  # characters of blocks and pictures; browsers get slow with pages beyond
_TEXT, _CONCLUSION = 4000, 600  # characters of a question, and of a conclusion, in the index

OnProgress = Callable[[str, int, int], None]


@dataclass
class Browsed:
    """`blocks` by the question's number, `pictures` (data URLs) each once, `shown` of how many questions the
    traces are there. `decided` says what settled each arm's duels."""

    index: str = ""
    blocks: dict[int, str] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)
    decided: dict[Arm, Counter[str]] = field(default_factory=dict)
    questions: int = 0

    @property
    def shown(self) -> int:
        return len(self.blocks)


def browse(
    results: RunResults,
    arms: Sequence[Arm],
    on_progress: OnProgress,
    most: int | None = None,
    size: int = MOST,
) -> Browsed:
    """Read all traces. Of at most `most` questions, and as many as `size` characters hold, the traces are
    kept: such as are drawn at random, with a fixed seed, of all benchmarks in turn."""
    found = Browsed(decided={arm: Counter() for arm in arms})
    items = [
        (benchmark, id)
        for benchmark in dict.fromkeys(arm.benchmark for arm in arms)
        for id in on(arms, benchmark)[0].values
    ]
    found.questions = len(items)
    numbers: dict[str, int] = {}
    of: dict[int, list[int]] = {}
    used = 0
    for done, number in enumerate(_drawn(items)):
        benchmark, id = items[number]
        traces = _traces(results, on(arms, benchmark), id, found.decided)
        if used < size and (most is None or found.shown < most):
            of[number], added = _keep_pictures(found, numbers, list(traces.values()))
            shown = {
                key: trace_fragment(trace, f"t{number}.{key}", with_question=False)
                for key, trace in traces.items()
            }
            found.blocks[number] = _packed(shown)
            used += added + len(found.blocks[number])
        on_progress("reading traces", done + 1, len(items))
    entries = [_entry(results, arms, *item, of.get(number)) for number, item in enumerate(items)]
    names = [{"benchmark": arm.benchmark, "model": arm.model, "method": arm.method} for arm in arms]
    found.index = _packed({"arms": names, "items": entries})
    return found


def _drawn(items: Sequence[tuple[str, str]]) -> list[int]:
    """The numbers of the questions: of each benchmark in an order drawn at random, the benchmarks in turn."""
    groups: dict[str, list[int]] = {}
    for number, (benchmark, _) in enumerate(items):
        groups.setdefault(benchmark, []).append(number)
    rng = random.Random(0)
    ranked = []
    for numbers in groups.values():
        rng.shuffle(numbers)
        ranked += list(enumerate(numbers))
    return [number for _, number in sorted(ranked)]


def _traces(
    results: RunResults, arms: Sequence[Arm], id: str, decided: dict[Arm, Counter[str]]
) -> dict[str, Trace]:
    """By "ARM.SEED", both numbers; what settled their duels is counted."""
    found = {}
    for arm in arms:
        for number, setting in enumerate(arm.settings):
            trace = results.trace(setting, id)
            if trace is not None:
                found[f"{arms.index(arm)}.{number}"] = trace
                decided[arm].update(verdict.decided_by for verdict in trace.verdicts)
    return found


def _keep_pictures(found: Browsed, numbers: dict[str, int], traces: Sequence[Trace]) -> tuple[list[int], int]:
    """The numbers of a question's pictures, and how many characters were added."""
    images = next((trace.question.images for trace in traces if trace.question.images), ())
    mine, added = [], 0
    for image in images:
        data = image_data_url(image)
        if data is None:
            continue
        if data not in numbers:
            numbers[data] = len(found.pictures)
            found.pictures.append(data)
            added += len(data)
        mine.append(numbers[data])
    return mine, added


def _entry(
    results: RunResults, arms: Sequence[Arm], benchmark: str, id: str, pictures: list[int] | None
) -> dict[str, Any]:
    item = results.item(benchmark, id)
    return {
        "benchmark": benchmark,
        "id": id,
        "skill": item.skill,
        "text": _bounded(item.text, _TEXT),
        "options": [_bounded(option, _CONCLUSION) for option in item.options],
        "answer": None if item.answer is None else _bounded(item.answer, _CONCLUSION),
        "pictures": pictures,
        "answers": [
            {"arm": number, "key": f"{place}.{n}", "seed": setting.seed, **_answer(by_id[id])}
            for place, (number, arm) in enumerate(_numbered(arms, benchmark))
            for n, (setting, by_id) in enumerate(zip(arm.settings, arm.by_id, strict=True))
            if id in by_id
        ],
    }


def _numbered(arms: Sequence[Arm], benchmark: str) -> list[tuple[int, Arm]]:
    return [(number, arm) for number, arm in enumerate(arms) if arm.benchmark == benchmark]


def _answer(result: QuestionResult) -> dict[str, Any]:
    """Fields that say nothing are left out: there are tens of thousands of these."""
    told = {
        "said": result.score.said,
        "conclusion": result.conclusion,
        "reason": result.score.reason,
        "failure": result.failure,
    }
    kept = {key: _bounded(text, _CONCLUSION) for key, text in told.items() if text}
    return {"value": round(result.score.value, 4), "by": result.score.by, **kept}


def _bounded(text: str, most: int) -> str:
    text = printable(text.encode("utf-8", "replace").decode())
    return text if len(text) <= most else f"{text[:most]} … ({plural(len(text) - most, 'more character')})"


def _packed(value: Any) -> str:
    """JSON, compressed (zlib), as base64."""
    return b64encode(
        zlib.compress(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"), 9)
    ).decode()
