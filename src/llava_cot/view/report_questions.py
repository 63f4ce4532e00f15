"""The questions of a report as its page holds them: a small index of all, and blocks that open one by one.

A block has the traces of one question under all arms, as compressed HTML.
"""

from __future__ import annotations

import json
import random
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

from llava_cot.core.trace import Trace
from llava_cot.evaluation.report.arms import Arm, arms_on
from llava_cot.evaluation.report.judging import ArmJudging
from llava_cot.evaluation.results import QuestionResult, RunResults
from llava_cot.view.html import cut, image_data_url, trace_fragment

_MOST_CHARACTERS = 60_000_000  # of blocks and pictures; browsers get slow with larger pages
_TEXT, _CONCLUSION = 4000, 600  # characters of a question and of a conclusion in the index

OnProgress = Callable[[str, int, int], None]


@dataclass
class EmbeddedQuestions:
    """What the page holds."""

    index: str = ""  # all questions and answers, packed
    blocks: dict[int, str] = field(default_factory=dict)  # a question's packed traces, by its number
    pictures: dict[str, int] = field(default_factory=dict)  # data URLs with their numbers
    judging: dict[Arm, ArmJudging] = field(default_factory=dict)  # what the traces say of judges
    questions: int = 0  # how many there are

    @property
    def shown(self) -> int:
        """How many questions have their traces in the page."""
        return len(self.blocks)


def embed_questions(
    results: RunResults,
    arms: Sequence[Arm],
    on_progress: OnProgress,
    most: int | None = None,
    size: int = _MOST_CHARACTERS,
) -> EmbeddedQuestions:
    """Read all traces, and embed those of some questions.

    At most `most` questions are embedded, and as many as `size` characters hold. They are drawn at random,
    with a fixed seed, from all benchmarks in turn.
    """
    benchmarks = dict.fromkeys(arm.benchmark for arm in arms)
    ids = [(benchmark, id) for benchmark in benchmarks for id in arms_on(arms, benchmark)[0].values]
    found = EmbeddedQuestions(judging={arm: ArmJudging() for arm in arms}, questions=len(ids))
    pictures: dict[int, list[int]] = {}
    used = 0
    for done, number in enumerate(_drawing_order(ids)):
        benchmark, id = ids[number]
        traces = _question_traces(results, arms_on(arms, benchmark), id, found.judging)
        if used < size and (most is None or found.shown < most):
            pictures[number], added = _embed_pictures(found.pictures, traces.values())
            fragments = {
                key: trace_fragment(trace, f"t{number}.{key}", with_question=False)
                for key, trace in traces.items()
            }
            found.blocks[number] = _pack(fragments)
            used += added + len(found.blocks[number])
        on_progress("reading traces", done + 1, len(ids))
    entries = [_index_entry(results, arms, *id, pictures.get(number)) for number, id in enumerate(ids)]
    names = [{"benchmark": arm.benchmark, "model": arm.model, "method": arm.method} for arm in arms]
    found.index = _pack({"arms": names, "items": entries})
    return found


def _embed_pictures(numbers: dict[str, int], traces: Iterable[Trace]) -> tuple[list[int], int]:
    """Number a question's pictures. Returns the numbers, and how many characters are new."""
    images = next((trace.question.images for trace in traces if trace.question.images), ())
    mine, added = [], 0
    for image in images:
        data = image_data_url(image)
        if data is None:
            continue
        if data not in numbers:
            numbers[data] = len(numbers)
            added += len(data)
        mine.append(numbers[data])
    return mine, added


def _pack(value: Any) -> str:
    """Return JSON, compressed (zlib), as base64."""
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    return b64encode(zlib.compress(text, 9)).decode()


def _drawing_order(ids: Sequence[tuple[str, str]]) -> list[int]:
    """Return the questions' numbers: each benchmark's in a random order (fixed seed), benchmarks in turn."""
    rng = random.Random(0)
    ranked: list[tuple[int, int]] = []
    for _, group in groupby(range(len(ids)), key=lambda number: ids[number][0]):
        numbers = list(group)
        rng.shuffle(numbers)
        ranked += enumerate(numbers)
    return [number for _, number in sorted(ranked)]


def _question_traces(
    results: RunResults, arms: Sequence[Arm], id: str, judging: Mapping[Arm, ArmJudging]
) -> dict[str, Trace]:
    """Return a question's traces under the arms of its benchmark, and add them to what is known of judges.

    Keys are "ARM.SEED", both as numbers within the benchmark.
    """
    found = {}
    for place, arm in enumerate(arms):
        for number, key in enumerate(arm.keys):
            trace = results.trace(key, id)
            if trace is not None:
                found[f"{place}.{number}"] = trace
                judging[arm].add(id, trace, partial(results.score_text, key, id))
    return found


def _index_entry(
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
        "text": cut(item.text, _TEXT),
        "options": [cut(option, _CONCLUSION) for option in item.options],
        "answer": None if item.answer is None else cut(item.answer, _CONCLUSION),
        "pictures": pictures,
        "answers": [
            {"arm": number, "key": f"{place}.{n}", "seed": seed, **_answer(by_id[id])}
            for place, (number, arm) in enumerate(numbered)
            for n, (seed, by_id) in enumerate(arm.by_seed.items())
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
    shown = {key: cut(text, _CONCLUSION) for key, text in texts.items() if text}
    return {"value": round(result.score.value, 4), "by": result.score.by, **shown}
