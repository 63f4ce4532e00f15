"""Circular evaluation: a question is asked under every rotation of its options, and counts if all are right.

Owns the rotations and the figure, both as VLMEvalKit has them (`mcq_circular_eval` in
`vlmeval/dataset/utils/multiple_choice.py`, `CIRCULAR` in `vlmeval/tools.py`). Of an item's `extra` it reads
`group`, the id of the question that it is a rotation of, and `rotations`, how many there are of that one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from string import ascii_uppercase

from llava_cot.evaluation.scoring.choice import Choice
from llava_cot.evaluation.scoring.counting import accuracy, by_skills
from llava_cot.evaluation.types import BenchmarkItem, Metric, ScoredItem

STEP = 1_000_000  # a question's rotations are so far from it, and from each other, in VLMEvalKit's indices


class Circular(Choice):
    """Multiple choice under rotations. "circular" is the figure that is reported; "accuracy" that of the
    questions as they are, asked once. A question whose rotations were not all asked is left out."""

    name = "circular"
    headline: tuple[str, ...] = ("circular",)

    def metrics(self, scored: Sequence[ScoredItem]) -> list[Metric]:
        groups: dict[str, list[ScoredItem]] = {}
        for one in scored:
            groups.setdefault(str(one.item.extra["group"]), []).append(one)
        whole = [group for group in groups.values() if len(group) == group[0].item.extra["rotations"]]
        counted = [
            (
                group[0].item,
                str(group[0].item.extra["group"]),
                float(all(one.score.value == 1 for one in group)),
            )
            for group in whole or groups.values()
        ]
        once = [one for one in scored if one.item.id == one.item.extra["group"]]
        return [*by_skills("circular", counted), *accuracy(once)]


def rotations(item: BenchmarkItem) -> Iterator[BenchmarkItem]:
    """The question, and then with its options moved up by one, two and so on; the first one goes last.

    A question whose options speak of letters ("A and B") stays as it is.
    """
    count = 1 if speaks_of_letters(item) else len(item.options)
    for n in range(count):
        answer = ascii_uppercase[(ascii_uppercase.index(item.answer or "") - n) % count] if n else item.answer
        yield replace(
            item,
            id=rotated_id(item.id, n),
            options=item.options[n:] + item.options[:n],
            answer=answer,
            extra={**item.extra, "group": item.id, "rotations": count},
        )


def rotated_id(id: str, n: int) -> str:
    """ "MMBench/7" rotated twice is "MMBench/2000007"."""
    name, _, index = id.rpartition("/")
    return f"{name}/{int(index) + n * STEP}"


def speaks_of_letters(item: BenchmarkItem) -> bool:
    """Whether rotating would change what the options say: one is a letter, or has two option letters in it as
    words; or there is nothing to rotate, for want of options or of an answer among them."""
    letters = ascii_uppercase[: len(item.options)]
    if len(letters) < 2 or len(item.answer or "") != 1 or (item.answer or "") not in letters:
        return True
    return any(
        option in ascii_uppercase or len(set(re.sub("[^a-zA-Z ]", " ", option).split()) & set(letters)) > 1
        for option in item.options
    )
