"""HallusionBench: questions that are right alone, with all others about a figure, and for all figures.

Owns its three figures, as VLMEvalKit has them (`Hallusion_rating` in `vlmeval/dataset/utils/yorn.py`): aAcc
counts questions, fAcc figures about which every question is right, qAcc questions that are right about every
figure. The OpenVLM leaderboard reports the mean of the three. Of an item's `extra` it reads `figure` and
`asked`, the names of the two groups that a question is in; a set of questions and figures is its `cluster`.

VLMEvalKit builds its groups from the l2-category without the category, so that sets of VD and VS with one
l2-category (ocr) and number are merged; so do we. Its figures by category, which it computes on the halves
of such groups, have no counterpart here; those by l2-category are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from llava_cot.evaluation.scoring.counting import accuracy, by_skills
from llava_cot.evaluation.scoring.yes_no import YesNo
from llava_cot.evaluation.types import Metric, ScoredItem


class Hallusion(YesNo):
    """Yes or no, by question, figure and question over figures."""

    name = "hallusion"
    headline: tuple[str, ...] = ("aAcc", "fAcc", "qAcc")

    def metrics(self, scored: Sequence[ScoredItem]) -> list[Metric]:
        return [
            *accuracy(scored, "aAcc"),
            _all_right("fAcc", "figure", scored),
            _all_right("qAcc", "asked", scored),
        ]


def _all_right(name: str, key: str, scored: Sequence[ScoredItem]) -> Metric:
    groups: dict[str, list[ScoredItem]] = {}
    for one in scored:
        groups.setdefault(str(one.item.extra[key]), []).append(one)
    (metric,) = by_skills(
        name,
        [
            (group[0].item, key, float(all(one.score.value == 1 for one in group)))
            for key, group in groups.items()
        ],
    )
    return metric
