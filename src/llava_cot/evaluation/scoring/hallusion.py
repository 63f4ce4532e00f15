"""HallusionBench: yes-or-no questions, scored alone, by figure, and by question over all figures.

The metrics are those of VLMEvalKit (`Hallusion_rating` in `vlmeval/dataset/utils/yorn.py`, ms-vlmeval
0.0.20): aAcc averages questions, fAcc figures about which every question is right, qAcc questions that are
right about every figure. The OpenVLM leaderboard reports the mean of the three. Of an item's `extra` it reads
`figure` and `asked`, the names of the two groups; a set of questions and figures is its `cluster`.

VLMEvalKit builds its groups from the l2-category without the category, so that sets of VD and VS with the
same l2-category (ocr) and number are merged; so do we. Its metrics by category, which it computes on the
halves of such groups, are not reported here; those by l2-category are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from llava_cot.evaluation.scoring import accuracy, accuracy_of_groups, group_by
from llava_cot.evaluation.scoring.yes_no import YesNoRule
from llava_cot.evaluation.types import Metric, ScoredItem


class HallusionRule(YesNoRule):
    """Yes or no, by question, by figure and by question over figures."""

    name = "hallusion"
    headline: tuple[str, ...] = ("aAcc", "fAcc", "qAcc")

    def metrics(self, scored: Sequence[ScoredItem]) -> list[Metric]:
        return [
            *accuracy(scored, "aAcc"),
            *accuracy_of_groups(group_by(scored, "figure"), "figure", "fAcc"),
            *accuracy_of_groups(group_by(scored, "asked"), "asked", "qAcc"),
        ]
