"""Circular evaluation: a question is asked under every rotation of its options, and all must be right.

As in VLMEvalKit (`mcq_circular_eval` in `vlmeval/dataset/utils/multiple_choice.py`, `CIRCULAR` in
`vlmeval/tools.py`, ms-vlmeval 0.0.20). Of an item's `extra` it reads `group`, the id of the question that it
is a rotation of, and `rotations`, the number of rotations of that question.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from string import ascii_uppercase

from llava_cot.evaluation.scoring import accuracy, accuracy_of_groups, group_by
from llava_cot.evaluation.scoring.choice import ChoiceRule
from llava_cot.evaluation.types import BenchmarkItem, Metric, ScoredItem

INDEX_STEP = 1_000_000  # the distance of a question's rotations in VLMEvalKit's indices


class CircularRule(ChoiceRule):
    """Multiple choice under rotations.

    "circular" is the reported metric, "accuracy" that of the unrotated questions. A question whose rotations
    were not all asked is left out, unless that is so for all.
    """

    name = "circular"
    headline: tuple[str, ...] = ("circular",)

    def metrics(self, scored: Sequence[ScoredItem]) -> list[Metric]:
        groups = group_by(scored, "group")
        complete = [group for group in groups if len(group) == group[0].item.extra["rotations"]]
        unrotated = [one for one in scored if one.item.id == one.item.extra["group"]]
        return [*accuracy_of_groups(complete or groups, "group", "circular"), *accuracy(unrotated)]


def rotations(item: BenchmarkItem) -> Iterator[BenchmarkItem]:
    """Yield the question, then copies with the options moved up by one, two and so on, first ones last.

    A question whose options mention letters ("A and B") is yielded once.
    """
    count = 1 if mentions_letters(item) else len(item.options)
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
    """Return the id of the n-th rotation: "MMBench/7" rotated twice is "MMBench/2000007"."""
    name, _, index = id.rpartition("/")
    return f"{name}/{int(index) + n * INDEX_STEP}"


def mentions_letters(item: BenchmarkItem) -> bool:
    """Whether rotating would change the meaning of an option: it is a letter, or has two letters as words.

    Also true where there is nothing to rotate: fewer than two options, or no answer among them.
    """
    letters = ascii_uppercase[: len(item.options)]
    if len(letters) < 2 or len(item.answer or "") != 1 or (item.answer or "") not in letters:
        return True
    return any(
        option in ascii_uppercase or len(set(re.sub("[^a-zA-Z ]", " ", option).split()) & set(letters)) > 1
        for option in item.options
    )
