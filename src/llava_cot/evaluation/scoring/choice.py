"""Multiple choice: which option an answer names. Used for MMStar, MMBench and AI2D.

`infer_option` is `can_infer` of VLMEvalKit (`vlmeval/utils/matching_util.py`, ms-vlmeval 0.0.20) and gives
the same result for every text, errors included ("A cube" names A), so that scores are the same. Differences
from `extract_answer_from_item` (`vlmeval/dataset/utils/multiple_choice.py`):

- What matching does not decide goes to VLMEvalKit's judge, or is wrong without one. After three unreadable
  replies VLMEvalKit draws a random option; here the answer stays unsettled.
- The judge's prompt is our own, and in English for Chinese questions too.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from llava_cot.evaluation.scoring import AccuracyRule
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem
from llava_cot.models.base import Prompt

NO_OPTION = "Z"  # inferred from a refusal: an answer, but none of the options

_SEPARATORS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_LAST_WORDS = 4  # a letter must be among so many last words
_API_FAILURE = "Failed to obtain answer via API"  # VLMEvalKit's text for a failed model call
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
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


class ChoiceRule(AccuracyRule):
    """The rule of multiple choice."""

    name = "choice"

    def match(self, item: BenchmarkItem, conclusion: str) -> AnswerScore | None:
        letter = infer_option(conclusion, item.options)
        return None if letter is None else AnswerScore(float(letter == item.answer), "match", letter)

    def prompt(self, item: BenchmarkItem, conclusion: str) -> Prompt:
        """Show the question as the benchmark has it, without its hint, and the options."""
        options = "\n".join(
            f"{letter}. {option}" for letter, option in zip(ascii_uppercase, item.options, strict=False)
        )
        question = item.extra.get("question", item.text)
        return Prompt.of(
            f"{_TASK}\nQuestion: {question}\nOptions:\n{options}\nAnswer: {conclusion.strip()}\nLetter:"
        )

    def read(self, item: BenchmarkItem, conclusion: str, reply: str) -> AnswerScore | None:
        letter = infer_option(reply, item.options)
        if letter is None:
            return None
        return AnswerScore(float(letter == item.answer), "scorer", letter, reply.strip())


def infer_option(text: str, options: Sequence[str]) -> str | None:
    """Return the letter of the option that a text names; "Z" for a refusal, None for none or several."""
    return _by_letter(text, ascii_uppercase[: len(options)]) or _by_words(text, options)


def _by_letter(text: str, letters: str) -> str | None:
    if _API_FAILURE in text:
        return None
    if any(refusal in text for refusal in _REFUSALS):
        return NO_OPTION
    words = text.translate(_SEPARATORS).split()
    named = [letter for letter in letters if letter in words]
    if not named:
        return NO_OPTION if NO_OPTION in words else None
    if len(named) == 1 and words.index(named[0]) >= len(words) - _LAST_WORDS:
        return named[0]
    return None


def _by_words(text: str, options: Sequence[str]) -> str | None:
    text = text.lower()
    if len(text) > 2 * sum(map(len, options)):
        return None
    lettered = zip(ascii_uppercase, options, strict=False)
    named = [letter for letter, words in lettered if words.lower() in text]
    return named[0] if len(named) == 1 else None
