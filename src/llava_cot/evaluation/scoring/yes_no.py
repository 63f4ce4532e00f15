"""Yes or no: which of the two an answer says.

Owns the extraction, which is that of VLMEvalKit (`YOrN_Extraction` in `vlmeval/dataset/utils/yorn.py`,
`process_punctuation` in `vlmeval/smp/misc.py`, ms-vlmeval 0.0.20) on every text. Where we differ: a scorer's
"Unknown" is taken at its word and counts as wrong; VLMEvalKit asks up to five times, ever less soberly, for
anything else, and then counts it as wrong too. The prompt is in our own words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llava_cot.evaluation.scoring.counting import accuracy
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, Metric, ScoredItem
from llava_cot.models.base import Prompt

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_THOUSANDS = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"(?<!\d)\.(?!\d)")
_STOPS = 32  # VLMEvalKit gives the flag re.UNICODE, which is 32, where the greatest count is meant
_TASK = """\
A question that is to be answered with yes or no was answered in free words. Say which of the two the answer \
means. Reply with one word: Yes, No, or Unknown if it means neither.

Question: Does the sign say "Open"?
Answer: The sign reads "Open".
Word: Yes

Question: Does the sign say "Open"?
Answer: I read "Closed" on it.
Word: No
"""


def extract(text: str) -> str | None:
    """ "Yes" or "No", if the text has one of the words and not the other; else None."""
    words = _without_marks(text.lower()).split()
    if ("yes" in words) == ("no" in words):
        return None
    return "Yes" if "yes" in words else "No"


def _without_marks(text: str) -> str:
    """A mark beside a space goes, any other becomes a space; with a number like 1,000 all marks go."""
    found = text
    thousands = _THOUSANDS.search(text) is not None
    for mark in _MARKS:
        beside_a_space = f"{mark} " in text or f" {mark}" in text
        found = found.replace(mark, "" if beside_a_space or thousands else " ")
    return _FULL_STOP.sub("", found, count=_STOPS)


class YesNo:
    """The rule of questions that are answered with yes or no."""

    name = "yes-no"
    headline: tuple[str, ...] = ("accuracy",)

    def match(self, item: BenchmarkItem, conclusion: str) -> AnswerScore | None:
        said = extract(conclusion)
        return None if said is None else AnswerScore(_worth(item, said), "match", said)

    def prompt(self, item: BenchmarkItem, conclusion: str) -> Prompt:
        question = item.extra.get("question", item.text)
        return Prompt.of(f"{_TASK}\nQuestion: {question}\nAnswer: {conclusion.strip()}\nWord:")

    def read(self, item: BenchmarkItem, conclusion: str, reply: str) -> AnswerScore | None:
        said = extract(reply)
        if said is None and "unknown" not in _without_marks(reply.lower()).split():
            return None
        return AnswerScore(_worth(item, said or ""), "scorer", said or "Unknown", reply.strip())

    def metrics(self, scored: Sequence[ScoredItem]) -> list[Metric]:
        return accuracy(scored)


def _worth(item: BenchmarkItem, said: str) -> float:
    return float(said.lower() == (item.answer or "").strip().lower())
