"""Multiple choice: which option an answer names, and circular evaluation, under rotations of the options.

Scores are those of VLMEvalKit, except for the differences in `docs/reference/benchmarks.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from string import ascii_uppercase

from llava_cot.core.question import lettered
from llava_cot.evaluation.scoring import AccuracyRule, accuracy, accuracy_of_groups, group_by, plain_reply
from llava_cot.evaluation.types import AnswerScore, BenchmarkItem, Metric, ScoredItem
from llava_cot.models.base import Prompt

NO_OPTION = "Z"  # inferred from a refusal: an answer, but none of the options
INDEX_STEP = 1_000_000  # the distance of a question's rotations in VLMEvalKit's indices

_SEPARATORS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_LAST_WORDS = 4  # a letter must be among so many last words
_SENTENCE = re.compile(r"(?i:answer\s+is)\s+\**\(?([A-Z])\b(?!')")
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


OLD = "0.0.20"  # of ms-vlmeval, by which published scores were made


class ChoiceRule(AccuracyRule):
    """The rule of multiple choice. With `old`, as in ms-vlmeval 0.0.20; its name ends with that version."""

    name = "choice"

    def __init__(self, old: bool = False) -> None:
        self.old = old
        if old:
            self.name = f"{self.name}-{OLD}"

    def match(self, item: BenchmarkItem, conclusion: str) -> AnswerScore | None:
        letter = infer_option(conclusion, item.options, old=self.old)
        return None if letter is None else AnswerScore(float(letter == item.answer), "match", letter)

    def prompt(self, item: BenchmarkItem, conclusion: str) -> Prompt:
        """Show the question as the benchmark has it, without its hint, and the options."""
        options = "\n".join(f"{letter}. {option}" for letter, option in lettered(item.options))
        question = item.extra.get("question", item.text)
        return Prompt.of(
            f"{_TASK}\nQuestion: {question}\nOptions:\n{options}\nAnswer: {conclusion.strip()}\nLetter:"
        )

    def read(self, item: BenchmarkItem, conclusion: str, reply: str) -> AnswerScore | None:
        text = plain_reply(reply)
        letter = infer_option(text, item.options, old=self.old)
        if letter is None:  # the reasons below it may name others
            letter = infer_option(text.partition("\n")[0], item.options, old=self.old)
        if letter is None:
            return None
        return AnswerScore(float(letter == item.answer), "scorer", letter, reply.strip())


def infer_option(text: str, options: Sequence[str], *, empty: bool = False, old: bool = False) -> str | None:
    """Return the letter of the option that a text names; "Z" for a refusal, None for none or several.

    An empty text is no option, or with `empty` one that every text contains, as in MathVista.

    As `can_infer` of VLMEvalKit (`vlmeval/utils/matching_util.py`), errors included: "A cube" names A. Since
    its commit a67ace50 (June 17, 2026) it also reads "The correct answer is B. Here is why: ...", which
    ms-vlmeval 0.0.20 does not; with `old`, neither does this. Its pattern takes the first letter of a word as
    well ("the answer is blue"), which is not followed.
    """
    named = list(zip(ascii_uppercase, options, strict=False)) if empty else lettered(options)
    letters = "".join(letter for letter, _ in named)
    return _by_letter(text, letters, old) or _by_words(text, named)


def _by_letter(text: str, letters: str, old: bool) -> str | None:
    if _API_FAILURE in text:
        return None
    if any(refusal in text for refusal in _REFUSALS):
        return NO_OPTION
    words = text.translate(_SEPARATORS).split()
    named = [letter for letter in letters if letter in words]
    if not named and NO_OPTION in words:
        return NO_OPTION
    if len(named) == 1 and words.index(named[0]) >= len(words) - _LAST_WORDS:
        return named[0]
    sentence = None if old else _SENTENCE.search(text)
    return sentence[1] if sentence and sentence[1] in letters else None


def _by_words(text: str, options: Sequence[tuple[str, str]]) -> str | None:
    text = text.lower()
    if len(text) > 2 * sum(len(words) for _, words in options):
        return None
    named = [letter for letter, words in options if words.lower() in text]
    return named[0] if len(named) == 1 else None


class CircularRule(ChoiceRule):
    """Multiple choice under every rotation of the options, all of which must be right ("circular").

    "accuracy" is that of the unrotated questions. A question of which rotations are missing is left out,
    unless that is so for all. As `mcq_circular_eval` of VLMEvalKit. `extra` has `group`, the id of the
    unrotated question, and `rotations`, their number.
    """

    name = "circular"
    headline: tuple[str, ...] = ("circular",)

    def metrics(self, scored: Sequence[ScoredItem]) -> list[Metric]:
        groups = group_by(scored, "group")
        complete = {
            key: group for key, group in groups.items() if len(group) == group[0].item.extra["rotations"]
        }
        unrotated = [one for one in scored if one.item.id == one.item.extra["group"]]
        return [*accuracy_of_groups(complete or groups, "circular"), *accuracy(unrotated)]


def rotations(item: BenchmarkItem) -> Iterator[BenchmarkItem]:
    """Yield the question, then copies with the options moved up by one, two and so on, first ones last.

    The second copy of "MMBench/7" is "MMBench/2000007". A question whose options mention letters ("A and B")
    is yielded once.
    """
    name, _, index = item.id.rpartition("/")
    count = 1 if mentions_letters(item) else len(item.options)
    for n in range(count):
        answer = ascii_uppercase[(ascii_uppercase.index(item.answer or "") - n) % count] if n else item.answer
        yield replace(
            item,
            id=f"{name}/{int(index) + n * INDEX_STEP}",
            options=item.options[n:] + item.options[:n],
            answer=answer,
            extra={**item.extra, "group": item.id, "rotations": count},
        )


def mentions_letters(item: BenchmarkItem) -> bool:
    """Whether rotating would change the meaning of an option: it is a letter, or has two letters as words.

    Also true where nothing can be rotated: fewer than two options, a letter without one, or no answer among
    them.
    """
    letters = ascii_uppercase[: len(item.options)]
    if len(letters) < 2 or len(item.answer or "") != 1 or (item.answer or "") not in letters:
        return True
    return any(
        option in ascii_uppercase or len(set(re.sub("[^a-zA-Z ]", " ", option).split()) & set(letters)) > 1
        for option in item.options
    )
