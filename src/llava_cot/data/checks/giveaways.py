"""Words that a response should not contain: of the teacher's instructions, or of a refusal.

The patterns match only what a writer who knows the answer would say, not "the correct answer is B".
"""

from __future__ import annotations

import re

from llava_cot.core.stages import Answer

_SHOWN = "standard|reference|ground[- ]truth|gold(?:en)?"
_HANDED = "provided|given|supplied|expected"
# An answer that was given to the writer, not the choices that a question gives.
_ANSWER = rf"(?:the|this|a|our) (?:{_SHOWN}|{_HANDED}|(?:{_HANDED}) correct|correct) answer"
_LEAKS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b(?:{_SHOWN}) answers?\b(?! (?:sheet|key|booklet))",
        rf"\b(?<!any )(?:{_HANDED})(?: correct)? answer\b(?! (?:choice|option|sheet|key|box|space))",
        rf"{_ANSWER} (?:that )?(?:was |is |has been |I was )?(?:provided|given|supplied)\b",
        rf"\banswer (?:is|was) (?:already )?(?:{_HANDED}|known) (?:as|to (?:be|me|us))\b",
        r"\b(?:the|this|your|these|provided|given)(?: (?:provided|given))? hints?\b(?! of\b)",
        r"\bhints? (?:says?|states?|tells?|mentions?|suggests?|indicates?|given|provided)\b",
        rf"\b(?:the|this) (?:{_HANDED}) (?:solution|rationale|lecture|explanation)\b",
        r"\bI (?:was|am|have been) (?:told|given|provided with) (?:that )?the (?:\w+ )?(?:answer|solution)\b",
        r"\b(?:the|my|your) (?:teacher'?s? |system |annotation )(?:instructions?|prompt)\b",
    )
)

_CANNOT = r"(?:can(?:no|')?t|can not|cannot|am unable to|am not able to|'m unable to|'m not able to|won't)"
_REFUSALS = re.compile(
    r"\W*(?:"
    r"(?:I'?m|I am) (?:very |so |really )?sorry\b.{0,20}?\b(?:but|I|as|we)\b"
    rf"|(?:sorry|unfortunately|apologies),? (?:but )?I ?{_CANNOT}"
    r"|I apologi[sz]e|as an? (?:AI|artificial|language model)\b"
    rf"|I ?{_CANNOT} (?:\w+ )?(?:assist|help|answer|identify|provide|see|view|determine|comply|discuss)"
    r")",
    re.IGNORECASE,
)


def leaks(response: Answer, question: str) -> list[tuple[str | None, str]]:
    """Find words that only the teacher's instructions explain, unless the question has such words itself.

    Returns:
        The stage (None if the text has no stages) and the words, for each stage that has some.
    """
    hinted = "hint" in question.casefold()
    patterns = [
        pattern
        for pattern in _LEAKS
        if not pattern.search(question) and not (hinted and "hint" in pattern.pattern)
    ]
    found = []
    for stage, text in _parts(response):
        match = next((match for pattern in patterns if (match := pattern.search(text))), None)
        if match is not None:
            found.append((stage, match[0]))
    return found


def refusal(response: Answer, answer: str | None = None) -> str | None:
    """The words at the beginning of a stage that refuse to answer, or None.

    None also if the standard answer begins in that way itself.
    """
    if answer is not None and _REFUSALS.match(_plain(answer)):
        return None
    for _, text in _parts(response):
        if match := _REFUSALS.match(_plain(text)):
            return match[0].strip()
    return None


def _parts(response: Answer) -> list[tuple[str | None, str]]:
    """The stages with their texts, or the whole text if there are none."""
    stages = [(name, text) for name, text in response.stages.items() if text]
    return [*stages] or [(None, response.text)]


def _plain(text: str) -> str:
    return text.replace("\u2019", "'")
