"""The questions of a report as its page holds them: an index of all, and blocks of HTML that open one by one.

The index is small and has all questions. A block has the traces of one question under all arms, compressed.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from llava_cot.core.trace import Trace
from llava_cot.evaluation.report.arms import Arm, arms_on
from llava_cot.evaluation.report.question_index import (
    drawing_order,
    index_entry,
    question_ids,
    question_traces,
)
from llava_cot.evaluation.results import RunResults
from llava_cot.view.html import image_data_url, trace_fragment

_MOST_CHARACTERS = 60_000_000  # of blocks and pictures; browsers get slow with larger pages

OnProgress = Callable[[str, int, int], None]


@dataclass
class EmbeddedQuestions:
    """What the page holds."""

    index: str = ""  # all questions and answers, packed
    blocks: dict[int, str] = field(default_factory=dict)  # a question's packed traces, by its number
    pictures: list[str] = field(default_factory=list)  # data URLs, each once
    decided: dict[Arm, Counter[str]] = field(default_factory=dict)  # how each arm's duels were decided
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
    found = EmbeddedQuestions(decided={arm: Counter() for arm in arms})
    ids = question_ids(arms)
    found.questions = len(ids)
    numbers: dict[str, int] = {}  # of the pictures, by their data
    pictures: dict[int, list[int]] = {}
    used = 0
    for done, number in enumerate(drawing_order(ids)):
        benchmark, id = ids[number]
        traces = question_traces(results, arms_on(arms, benchmark), id, found.decided)
        if used < size and (most is None or found.shown < most):
            pictures[number], added = _embed_pictures(found, numbers, list(traces.values()))
            fragments = {
                key: trace_fragment(trace, f"t{number}.{key}", with_question=False)
                for key, trace in traces.items()
            }
            found.blocks[number] = _pack(fragments)
            used += added + len(found.blocks[number])
        on_progress("reading traces", done + 1, len(ids))
    entries = [index_entry(results, arms, *id, pictures.get(number)) for number, id in enumerate(ids)]
    names = [{"benchmark": arm.benchmark, "model": arm.model, "method": arm.method} for arm in arms]
    found.index = _pack({"arms": names, "items": entries})
    return found


def _embed_pictures(
    found: EmbeddedQuestions, numbers: dict[str, int], traces: Sequence[Trace]
) -> tuple[list[int], int]:
    """Return the numbers of a question's pictures, and how many characters were added."""
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


def _pack(value: Any) -> str:
    """Return JSON, compressed (zlib), as base64."""
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    return b64encode(zlib.compress(text, 9)).decode()
