"""Yes or no: which of the two an answer says, and HallusionBench, which groups such questions.

Scores are those of VLMEvalKit, except for the differences in `docs/reference/benchmarks.md`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llava_cot.evaluation.scoring import AccuracyRule, accuracy, accuracy_of_groups, group_by, plain_reply
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, Metric, ScoredItem
from llava_cot.models.base import Prompt

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_THOUSANDS = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"(?<!\d)\.(?!\d)")
_MAX_STOPS = 32  # VLMEvalKit passes the flag re.UNICODE, which is 32, as the maximum count
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


class YesNoRule(AccuracyRule):
    """The rule of questions that are answered with yes or no."""

    name = "yes-no"

    def match(self, item: BenchmarkItem, conclusion: str) -> AnswerScore | None:
        word = extract_yes_no(conclusion)
        return None if word is None else AnswerScore(_value(item, word), "match", word)

    def prompt(self, item: BenchmarkItem, conclusion: str) -> Prompt:
        question = item.extra.get("question", item.text)
        return Prompt.of(f"{_TASK}\nQuestion: {question}\nAnswer: {conclusion.strip()}\nWord:")

    def read(self, item: BenchmarkItem, conclusion: str, reply: str) -> AnswerScore | None:
        reply = plain_reply(reply)
        word = read_yes_no(reply)
        if word is None and "unknown" not in _without_marks(reply.lower()).split():
            return None
        return AnswerScore(_value(item, word or ""), "scorer", word or "Unknown", reply.strip())


def read_yes_no(reply: str) -> str | None:
    """Return the "Yes" or "No" of a scorer's reply; of several, the one that it begins with."""
    first = re.match(r"\W*(yes|no)\b", plain_reply(reply), re.IGNORECASE)
    return first[1].capitalize() if first else extract_yes_no(plain_reply(reply))


def extract_yes_no(text: str) -> str | None:
    """Return "Yes" or "No" if the text has one of the words and not the other, else None.

    As `YOrN_Extraction` of VLMEvalKit (`vlmeval/dataset/utils/yorn.py`).
    """
    words = _without_marks(text.lower()).split()
    if ("yes" in words) == ("no" in words):
        return None
    return "Yes" if "yes" in words else "No"


def _without_marks(text: str) -> str:
    """Remove a mark next to a space, replace any other by a space; with a number like 1,000 remove all."""
    found = text
    thousands = _THOUSANDS.search(text) is not None
    for mark in _MARKS:
        next_to_space = f"{mark} " in text or f" {mark}" in text
        found = found.replace(mark, "" if next_to_space or thousands else " ")
    return _FULL_STOP.sub("", found, count=_MAX_STOPS)


def _value(item: BenchmarkItem, word: str) -> float:
    return float(word.lower() == (item.answer or "").strip().lower())


class HallusionRule(YesNoRule):
    """Yes or no, by question (aAcc), by figure (fAcc) and by question over figures (qAcc).

    As `Hallusion_rating` of VLMEvalKit. `extra` has the names of the two groups, `figure` and `asked`; a set
    of questions and figures is its `cluster`.
    """

    name = "hallusion"
    headline: tuple[str, ...] = ("aAcc", "fAcc", "qAcc")

    def metrics(self, scored: Sequence[ScoredItem]) -> list[Metric]:
        return [
            *accuracy(scored, "aAcc"),
            *accuracy_of_groups(group_by(scored, "figure"), "fAcc"),
            *accuracy_of_groups(group_by(scored, "asked"), "qAcc"),
        ]
