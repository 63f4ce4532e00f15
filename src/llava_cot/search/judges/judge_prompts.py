"""What a judge is asked, and how its reply is read.

Owns the wording of the duels and of the checks, and the two parsers. Knows no model, no
judge and no tag. What two games of one tournament share comes first (criterion, question, earlier
stages) and the two responses last, so that games share a prefix. The criteria are those of section
3.2 and the appendix of arXiv 2411.10440, in words of our own.

Every constant piece of the duels and of the reasoning check is in `CONSTANT_PIECES`, exactly as it
stands in a prompt, so that a small model may give each a token of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

CRITERIA: dict[str, str] = {
    "summary": (
        "Which summary is better? A good one outlines how the question will be approached and gives "
        "nothing of the answer away."
    ),
    "caption": (
        "Which caption is better? A good one describes accurately and thoroughly what the image shows "
        "that matters to the question."
    ),
    "reasoning": (
        "Which reasoning is better? A good one is correct in every step, agrees with the image and leads "
        "to the answer."
    ),
    "conclusion": (
        "Which conclusion is better? A good one agrees with the reasoning, answers the question in the "
        "form it asks for and does not refuse."
    ),
    "answer": (
        "Which answer is better? A good one is accurate, complete and soundly reasoned, and does not refuse."
    ),
    "sentence": (
        "Which sentence goes on better with the answer? A good one is accurate and brings the answer forward."
    ),
}
CUSTOM_CRITERION = (
    "Which part of an answer is better? A good one is accurate and does its own work. The part:\n"
)
QUESTION = "\nQuestion:\n"
HINTS: dict[str, str] = {
    "caption": "\nCaption:\n",
    "reasoning": "\nReasoning:\n",
    "sentence": "\nThe answer so far:\n",
}
CUSTOM_HINT = "\nEarlier part, "
CUSTOM_HINT_END = ":\n"
RESPONSE_1 = "\n\nResponse 1:\n"
RESPONSE_2 = "\n\nResponse 2:\n"
REPLY_FORM = (
    '\n\nReply in one sentence: "Since ..., I choose response 1." or "Since ..., I choose response 2."'
)

CHECK = "Is this reasoning correct? Look for mistakes in it, taking the caption to be true."
CHECK_WITHOUT_CAPTION = "Is this reasoning correct? Look for mistakes in it."
CHECK_FORM = '\n\nReply with a short reason, then "Verdict: correct." or "Verdict: incorrect."'

# The same for any other part of an answer, or a whole one, which the paper does not check.
CHECKS: dict[str, str] = {
    "answer": "Is this answer correct? Look for mistakes in it, and in how it comes to what it says.",
    "sentence": "Is this answer correct so far? Look for mistakes in its last sentence.",
}
CHECK_PART = "Is this part of an answer correct? Look for mistakes in it. The part: "
RESPONSE = "\n\nResponse:\n"

# How a reply to a duel ends, less the number: what a judge that scores the number alone continues.
CHOICE = "I choose response"
CHOICES = (" 1", " 2")
# And to a check.
VERDICT = "Verdict:"
VERDICTS = (" correct", " incorrect")

_UNSUMMARISED = ("caption", "reasoning", "conclusion")

CONSTANT_PIECES: tuple[str, ...] = (
    *CRITERIA.values(),
    CUSTOM_CRITERION,
    QUESTION,
    *HINTS.values(),
    CUSTOM_HINT,
    CUSTOM_HINT_END,
    RESPONSE_1,
    RESPONSE_2,
    REPLY_FORM,
    CHECK,
    CHECK_WITHOUT_CAPTION,
    CHECK_FORM,
)


def judge_prompt(stage: str, question_text: str, hint: Mapping[str, str | None], a: str, b: str) -> str:
    """The text of a duel between `a` (response 1) and `b` (response 2); the images go before it.

    `hint` holds the texts of the earlier stages, in order, by name (for the stage "sentence": the
    answer so far, under "sentence"). The paper's stages are not shown the summary; any other sees all.
    """
    parts = [CRITERIA.get(stage) or CUSTOM_CRITERION + stage, *_asked(stage, question_text, hint)]
    parts += [RESPONSE_1, a.strip(), RESPONSE_2, b.strip(), REPLY_FORM]
    return "".join(parts)


def _asked(stage: str, question_text: str, hint: Mapping[str, str | None]) -> list[str]:
    """The question and what comes before the stage."""
    parts = [QUESTION, question_text.strip()]
    for name, text in hint.items():
        if text is None or not text.strip() or (name == "summary" and stage in _UNSUMMARISED):
            continue
        parts += [HINTS.get(name) or CUSTOM_HINT + name + CUSTOM_HINT_END, text.strip()]
    return parts


def check_prompt(question_text: str, caption: str | None, reasoning: str) -> str:
    """The text that asks whether one reasoning is correct; the paper asks it without the image."""
    if caption is None or not caption.strip():
        parts = [CHECK_WITHOUT_CAPTION, QUESTION, question_text.strip()]
    else:
        parts = [CHECK, QUESTION, question_text.strip(), HINTS["caption"], caption.strip()]
    return "".join([*parts, HINTS["reasoning"], reasoning.strip(), CHECK_FORM])


def part_check_prompt(stage: str, question_text: str, hint: Mapping[str, str | None], text: str) -> str:
    """The same of any other stage, a sentence or a whole answer; the images go before it.

    `hint` is as in `judge_prompt`.
    """
    parts = [CHECKS.get(stage) or CHECK_PART + stage, *_asked(stage, question_text, hint)]
    return "".join([*parts, RESPONSE, text.strip(), CHECK_FORM])


def choice_reply(choice: int, reason: str = "") -> str:
    """A reply that chooses response 1 or 2, as a judge is to give it; without a reason, the choice alone."""
    return f"Since {reason}, {CHOICE} {choice}." if reason else f"{CHOICE} {choice}."


def check_reply(correct: bool, reason: str = "") -> str:
    """A reply that gives a verdict after its reason, if there is one: whole sentences."""
    return f"{reason} Verdict: {'correct' if correct else 'incorrect'}.".lstrip()


_GAP = r"[\s*_\[\](){}:#\"'`<>-]"
_CHOICE = re.compile(
    rf"\b(?:choose|chose|pick|select|prefer){_GAP}{{1,8}}(?:the{_GAP}{{1,4}})?"
    rf"response{_GAP}{{0,8}}([12])(?![0-9]|\.[0-9])",
    re.IGNORECASE,
)
_BARE_CHOICE = re.compile(
    rf"{_GAP}{{0,8}}(?:(?:my|the|final|better|best|choice|answer|verdict|winner|is){_GAP}{{1,8}}){{0,5}}"
    rf"(?:response)?{_GAP}{{0,8}}([12]){_GAP}{{0,8}}\.?{_GAP}{{0,8}}",
    re.IGNORECASE,
)
_CHECK = re.compile(
    rf"\bverdict{_GAP}{{0,8}}(?:is{_GAP}{{1,4}})?(in|not{_GAP}{{1,4}})?correct\b(?!{_GAP}{{0,4}}/)",
    re.IGNORECASE,
)
_BARE_CHECK = re.compile(rf"{_GAP}{{0,8}}(in|not )?correct{_GAP}{{0,8}}\.?{_GAP}{{0,8}}", re.IGNORECASE)
_NEGATED = re.compile(
    r"(?:\bnot|n't|n’t|\bnever|\bcannot|\bthan|\binstead of)\s{1,4}(?:to\s{1,4})?$", re.IGNORECASE
)
_OTHER = re.compile(
    rf"{_GAP}{{0,4}}(?:/|\bor\b|\band\b){_GAP}{{0,4}}(?:response{_GAP}{{0,4}})?[12]\b", re.IGNORECASE
)
_ECHO = re.compile(r"[\s\".'*]{0,8}or[\s\"'*]{0,8}(?:since\b.{0,12})?(?:I\s)?", re.IGNORECASE)


def parse_choice(reply: str) -> Literal[1, 2] | None:
    """1 or 2, the response that the reply chooses last; None if it is cut, chooses neither or both."""
    last: re.Match[str] | None = None
    undecided = False
    for match in _CHOICE.finditer(reply):
        if _NEGATED.search(reply, max(0, match.start() - 24), match.start()):
            continue
        undecided = bool(_OTHER.match(reply, match.end())) or _echoes(reply, last, match)
        last = match
    if last is not None:
        return None if undecided else _number(last[1])
    bare = _BARE_CHOICE.fullmatch(_last_line(reply))
    return _number(bare[1]) if bare else None


def parse_check(reply: str) -> bool | None:
    """Whether the reply's last verdict is "correct"; None if it gives none, or both."""
    last: re.Match[str] | None = None
    undecided = False
    for match in _CHECK.finditer(reply):
        undecided = _echoes(reply, last, match)
        last = match
    if last is not None:
        return None if undecided else last[1] is None
    bare = _BARE_CHECK.fullmatch(_last_line(reply))
    return bare[1] is None if bare else None


def _echoes(reply: str, before: re.Match[str] | None, match: re.Match[str]) -> bool:
    """Whether two verdicts are the two alternatives of the prompt's own sentence, said back."""
    return (
        before is not None
        and match.start() - before.end() < 40
        and bool(_ECHO.fullmatch(reply, before.end(), match.start()))
    )


def _number(digit: str) -> Literal[1, 2]:
    return 1 if digit == "1" else 2


def _last_line(reply: str) -> str:
    lines = reply.strip().splitlines()
    return lines[-1].strip() if lines else ""
