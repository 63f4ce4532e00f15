"""Numbers in English words: cardinals, decimals, fractions, dozens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from llava_cot.core.units import SCALES


def _numbered(words: str, first: int = 0, step: int = 1) -> dict[str, int]:
    return {word: first + step * i for i, word in enumerate(words.split())}


_DIGITS = _numbered("zero one two three four five six seven eight nine")
_TEENS = _numbered(
    "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen", first=10
)
_TENS = _numbered("twenty thirty forty fifty sixty seventy eighty ninety", first=20, step=10)
_PARTS = _numbered("half third fourth fifth sixth seventh eighth ninth tenth", first=2) | {"quarter": 4}
_PLURAL_PARTS = {"halves": 2} | {f"{word}s": value for word, value in _PARTS.items() if word != "half"}
_LARGE = {word: SCALES[word] for word in ("thousand", "million", "billion", "trillion", "dozen")}
VOCABULARY = {*_DIGITS, *_TEENS, *_TENS, *_LARGE, *_PARTS, *_PLURAL_PARTS, "hundred"}
# After a number in words: "twenty first", "three sixteenths".
_ORDINAL = re.compile(
    "(?:first|eleventh|twelfth|(?:thir|four|fif|six|seven|eigh|nine)teenth|twentieth"
    "|thirtieth|fortieth|fiftieth|sixtieth|seventieth|eightieth|ninetieth"
    "|hundredth|thousandth|millionth|billionth)s?"
)
_LONGEST = 64  # words of a number
_INDEFINITE = {"dozens", "hundreds", "thousands", "millions", "billions"}


def words_at(tokens: Sequence[str], at: int) -> tuple[Fraction | None, int]:
    """The number in words that begins at a token, and where it ends.

    The longest run of number words is one number, or is not read: then the value is None. The end is the
    beginning where there is no number word.
    """
    words = [token.lower() for token in tokens[at : at + _LONGEST]]
    if words[0] in _INDEFINITE:
        return None, at + 1
    start = int(words[0] in ("a", "an"))
    end = start
    while end < len(words) and (words[end] in VOCABULARY or _joins(words, start, end)):
        end += 1
    run = words[start:end]
    if not run or (start and run[0] not in (*_LARGE, "hundred", "half", "quarter", "third")):
        return None, at
    if run[0] in ("third", *list(_PARTS)[2:-1]) and not start:
        return None, at  # an ordinal
    if words[end : end + 1] == ["and"] and run[-1] in (*_LARGE, "hundred") and _is_ordinal(words, end + 1):
        return None, at + end + 2
    if end < len(words) and (_ORDINAL.fullmatch(words[end]) or (words[end] == "second" and run[-1] in _TENS)):
        return None, at + end + 1
    return _worked_out(["one", *run] if start and run[0] != "half" else run), at + end


def _is_ordinal(words: list[str], at: int) -> bool:
    return at < len(words) and (words[at] in ("first", "second") or _ORDINAL.fullmatch(words[at]) is not None)


def _joins(words: list[str], start: int, at: int) -> bool:
    """Whether a word inside of a run of number words belongs to it."""
    if at == start or at + 1 >= len(words):
        return False
    if words[at] == "and":
        before, after = words[at - 1], words[at + 1]
        part = after in ("a", "half") or (
            after in _DIGITS and at + 2 < len(words) and words[at + 2] in _PLURAL_PARTS
        )
        return part or (before in (*_LARGE, "hundred") and after in VOCABULARY)
    if words[at] == "a":
        return words[at - 1] in ("and", "half") and words[at + 1] in VOCABULARY
    return words[at] == "point" and words[at + 1] in _DIGITS


def _worked_out(words: list[str]) -> Fraction | None:
    """The value of number words, all of them; None if they are no one number."""
    if "point" in words:
        at = words.index("point")
        whole, digits, scale = _cardinal(words[:at]), words[at + 1 :], 1
        while digits[-1] in _LARGE:  # 2.5 million
            scale *= _LARGE[digits.pop()]
        if whole is None or not all(word in _DIGITS for word in digits):
            return None
        return scale * Fraction(f"{whole}.{''.join(str(_DIGITS[word]) for word in digits)}")
    if words[0] == "half":  # half a million, half a dozen; half
        rest = [word for word in words[1:] if word != "a"]
        size = _cardinal(["one", *rest]) if rest else 1
        return None if size is None or (rest and rest[0] not in (*_LARGE, "hundred")) else Fraction(size, 2)
    last = words[-1]
    part = _PARTS.get(last) or _PLURAL_PARTS.get(last)
    if part is None:
        whole = _cardinal(words)
        return None if whole is None else Fraction(whole)
    at = len(words) - 1 - words[::-1].index("and") if "and" in words else -1
    count = _cardinal(["one" if word == "a" else word for word in words[at + 1 : -1]] or ["one"])
    whole = _cardinal(words[:at]) if at > 0 else 0
    if at > 0 and words[at - 1] in _LARGE:
        return None  # a dozen and a half
    if count is None or whole is None or (last in _PARTS) != (count == 1):
        return None
    return whole + Fraction(count, part)


def _cardinal(words: list[str]) -> int | None:
    """The value of a cardinal in words; None if they are out of order ("twenty twenty")."""
    total = group = 0
    room = 100  # what is added to the group must be less
    scale = max(_LARGE.values()) + 1  # so must the next scale
    for word in words:
        small = _DIGITS.get(word, _TEENS.get(word, _TENS.get(word)))
        if small is not None and small < room and (small or words == ["zero"]):
            group, room = group + small, 10 if word in _TENS else 0
        elif word == "hundred" and 0 < group < 20:
            group, room = group * 100, 100
        elif 0 < _LARGE.get(word, 0) < scale and group:
            scale = _LARGE[word]
            total, group, room = total + group * scale, 0, 100
        elif word != "and":
            return None
    return total + group
