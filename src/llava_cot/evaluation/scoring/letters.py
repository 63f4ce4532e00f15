"""Which option a text names, as VLMEvalKit infers it: the letter, or else the option's words.

Owns the inference, to the letter that of `can_infer` in `vlmeval/utils/matching_util.py` (ms-vlmeval 0.0.20).
Knows no benchmark. It errs on purpose where that does ("A cube" names A): scores are to be the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

NONE = "Z"  # what is inferred from a refusal: it names an answer, and no option's

_SEPARATORS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_LATEST = 4  # a letter counts among so many of the last words
_FAILED = "Failed to obtain answer via API"  # what VLMEvalKit writes for an answer when a model failed
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)


def infer(text: str, options: Sequence[str]) -> str | None:
    """The letter of the option that a text names, "Z" for a refusal, None where it names none or several."""
    return _by_letter(text, ascii_uppercase[: len(options)]) or _by_words(text, options)


def _by_letter(text: str, letters: str) -> str | None:
    if _FAILED in text:
        return None
    if any(refusal in text for refusal in _REFUSALS):
        return NONE
    words = text.translate(_SEPARATORS).split()
    named = [letter for letter in letters if letter in words]
    if not named:
        return NONE if NONE in words else None
    if len(named) == 1 and words.index(named[0]) >= len(words) - _LATEST:
        return named[0]
    return None


def _by_words(text: str, options: Sequence[str]) -> str | None:
    text = text.lower()
    if len(text) > 2 * sum(map(len, options)):
        return None
    lettered = zip(ascii_uppercase, options, strict=False)
    named = [letter for letter, words in lettered if words.lower() in text]
    return named[0] if len(named) == 1 else None
