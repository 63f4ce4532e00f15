"""Multiple choice: which option an answer means.

Owns the rule and what a scorer is asked. Which option a text names is the subject of `letters.py`, and the
same as in VLMEvalKit on every text. Where we differ (`extract_answer_from_item` in
`vlmeval/dataset/utils/multiple_choice.py` of ms-vlmeval 0.0.20):

- what matching does not settle, VLMEvalKit gives to its judge, or counts as wrong without one; after three
  replies that cannot be read it draws an option at random, and we leave it unsettled;
- the judge's prompt is in our own words, and in English for Chinese questions too.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from llava_cot.evaluation.scoring.counting import accuracy
from llava_cot.evaluation.scoring.letters import infer
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, Metric, ScoredItem
from llava_cot.models.base import Prompt

_TASK = """\
A multiple-choice question was answered in free words. Say which of its options the answer means: the one \
that comes closest to it in meaning. Reply with that option's letter alone, or with Z if the answer is far \
from all of them.

Question: Which animal is asleep?
Options:
A. the dog
B. the cat
C. the parrot
Answer: A tabby kitten sleeps on the sofa.
Letter: B

Question: Which animal is asleep?
Options:
A. the dog
B. the cat
C. the parrot
Answer: It is the tortoise.
Letter: Z
"""


def prompt(item: BenchmarkItem, conclusion: str) -> Prompt:
    """What a scorer is asked: the question as it is in the benchmark, without its hint, and the options."""
    options = "\n".join(
        f"{letter}. {option}" for letter, option in zip(ascii_uppercase, item.options, strict=False)
    )
    question = item.extra.get("question", item.text)
    return Prompt.of(
        f"{_TASK}\nQuestion: {question}\nOptions:\n{options}\nAnswer: {conclusion.strip()}\nLetter:"
    )


class Choice:
    """The rule of multiple choice, as for MMStar, MMBench and AI2D."""

    name = "choice"
    headline: tuple[str, ...] = ("accuracy",)

    def match(self, item: BenchmarkItem, conclusion: str) -> AnswerScore | None:
        said = infer(conclusion, item.options)
        return None if said is None else AnswerScore(float(said == item.answer), "match", said)

    def prompt(self, item: BenchmarkItem, conclusion: str) -> Prompt:
        return prompt(item, conclusion)

    def read(self, item: BenchmarkItem, conclusion: str, reply: str) -> AnswerScore | None:
        said = infer(reply, item.options)
        return (
            None if said is None else AnswerScore(float(said == item.answer), "scorer", said, reply.strip())
        )

    def metrics(self, scored: Sequence[ScoredItem]) -> list[Metric]:
        return accuracy(scored)
