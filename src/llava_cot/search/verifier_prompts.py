"""The prompts of verifiers: turns of a process reward model, a critic's task, and the rating in its reply."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from llava_cot.core.question import PLACE, Question, question_text
from llava_cot.models.base import Message, Prompt
from llava_cot.search.judge_prompts import JudgePrompts

IMAGES = "<image>"  # stands for them in `step_question`
_GAP = r"(?:<\|?/?\w{1,30}\|?>|\\boxed|[\s*_\[\](){}:#\"'`$=]){0,12}"  # a box, or emphasis
_NUMBER = r"(?<![\d.])(-?\d{1,9}(?:\.\d{1,9})?)(?![\d.]*\d)"


def step_turns(prompts: JudgePrompts, question: Question, steps: Sequence[str]) -> tuple[Message, ...]:
    """The turns up to the last step, which waits for its sign; all steps before it were found right."""
    text, lead = question_text(question), prompts.step_question
    places = "" if PLACE in text else "\n".join([PLACE] * len(question.images))
    # Without images, the line that they would have stays away.
    lead = lead.replace(IMAGES, places) if places else lead.replace(f"{IMAGES}\n", "").replace(IMAGES, "")
    first = f"{lead}{text}{prompts.first_step}{steps[0]}"
    turns = [Message("system", prompts.step_task)] if prompts.step_task.strip() else []
    turns.append(Message("user", first, question.images))
    for step in steps[1:]:
        turns += [Message("assistant", prompts.signs[0]), Message("user", step)]
    return tuple(turns)


def rating_prompt(prompts: JudgePrompts, question: Question, response: str) -> Prompt:
    """The prompt that asks a critic to rate a response."""
    parts = [prompts.rate, prompts.rate_question, question_text(question).strip()]
    parts += [prompts.rate_response, response.strip(), prompts.rate_form]
    return Prompt.of("".join(parts), question.images)


def parse_score(reply: str, prompts: JudgePrompts) -> float | None:
    """The last rating of a reply as a share of the range; None if there is none, or none within it.

    A number that stands alone in a line is a rating too, where none follows the words before it. A reply
    without either may give the verdict of a check instead: 1 for the first of `verdicts`, 0 for the other.
    """
    low, high = prompts.score_range
    led, alone = _patterns(prompts.score.strip().rstrip(":"))
    found = led.findall(reply) or alone.findall(reply)
    if not found:
        verdict = prompts.parse_check(reply)
        return None if verdict is None else float(verdict)
    value = float(found[-1])
    return (value - low) / (high - low) if low <= value <= high else None


@cache
def _patterns(lead: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A number after the words that lead to it, and one alone in its line."""
    start = r"(?<!\w)" if re.match(r"\w", lead) else ""
    led = re.compile(f"{start}{re.escape(lead)}{_GAP}{_NUMBER}", re.IGNORECASE)
    return led, re.compile(rf"^{_GAP}{_NUMBER}(?:\s?/\s?\d{{1,9}})?{_GAP}\.?$", re.MULTILINE)
