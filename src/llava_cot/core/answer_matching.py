"""Whether a conclusion agrees with the standard answer, by the words alone.

Where the words do not settle it ("sofa" for "couch", a free description), the result is None: callers count
that separately, never as right or wrong.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from fractions import Fraction
from string import ascii_uppercase

_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip
_SMALL = {word: Fraction(value) for value, word in enumerate(_WORDS)}
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+)?(?![\w/])")
_NUMBER_WORD = re.compile(rf"\b(?:{'|'.join(_SMALL)})\b")
_COLORS = (
    "red", "green", "blue", "yellow", "black", "white", "gray", "brown", "purple", "orange", "pink", "cyan",
)  # fmt: skip

# Of each group one excludes the others, so that naming another one alone contradicts.
_EXCLUSIVE = (
    frozenset({"yes", "no"}),
    frozenset({"true", "false"}),
    frozenset({"left", "right"}),
    frozenset({"above", "below"}),
    frozenset({"male", "female"}),
    frozenset({"small", "large"}),
    frozenset(_COLORS),
)
_NEGATION = re.compile(r"\b(?:not|no|never|neither|nor|without|rather than|instead of)\b|n't\b")

# How a letter is named, if it can be nothing else; "A cube" and "I see" name none.
_ALONE = re.compile(r"\W*([A-Z])\W*")
_LEADING = re.compile(r"\W*(?:\(([A-Z])\)|([A-Z])[.):](?=\s|$))")
_NAMED = re.compile(
    r"\b(?:(?:answer|option|choice)(?: is| would be|:)?|choose|select|pick)"
    r"\s*(?:option |choice )?[\"'*(]*([A-Z])(?=[\"'*).,:;]|\s*$|\s+(?:is|as|because|since|which)\b)",
    re.IGNORECASE,
)
_BRACKETED = re.compile(r"\(([A-Z])\)")

# What makes "3" another number.
_SCALE = re.compile(r"\b(?:hundred|thousand|million|billion|trillion|dozen|half|quarter)s?\b")

# A longer text with other numbers or names in it may mean anything.
_SHORT = 12


def agrees(conclusion: str, answer: str, options: Sequence[str] = ()) -> bool | None:
    """Compare a conclusion with the standard answer.

    Numbers are compared by value ("3", "three", "$3.00"), options by letter or by text. A longer conclusion
    agrees if the answer stands in it as a word.

    Args:
        conclusion: What an answer concludes.
        answer: The standard answer; with options, a letter or an option's text.
        options: The question's options, in order.

    Returns:
        True if they agree, False if they contradict each other, None if the words do not tell.
    """
    right = option_of(answer, options)
    if right is not None:
        return _of_options(conclusion, right, options)
    given, expected = normal(conclusion), normal(answer)
    if not given or not expected:
        return None
    if given == expected:
        return None if _differ_by_case(conclusion, answer) else True
    value = _value(expected)
    if value is not None:
        return _of_numbers(given, value)
    if letter := _ALONE.fullmatch(answer):
        return _of_letter(conclusion, letter[1])
    return _of_words(given, expected)


def normal(text: str) -> str:
    """The text in lower case, without a leading article, surrounding marks and repeated white space."""
    text = unicodedata.normalize("NFKC", text).casefold().replace("grey", "gray").replace("\u2019", "'")
    text = re.sub(r"[*_`\"]+|\\boxed", " ", text)
    text = " ".join(text.split()).strip(" .,:;!?'()[]{}")
    return re.sub(r"^(?:the|an?) (?=\S)", "", text)


def same(a: str, b: str) -> bool:
    """Whether two texts are the same in their normal form, numbers by their value."""
    return _same(normal(a), normal(b))


def numbers(text: str) -> set[Fraction]:
    """The numbers in a text, small ones also in words."""
    return set(_values(unicodedata.normalize("NFKC", text).casefold()))


def _differ_by_case(conclusion: str, answer: str) -> bool:
    """Whether two symbols, such as the genotypes "Tt" and "TT", differ in their capitals."""
    a, b = (re.sub(r"\W", "", text) for text in (conclusion, answer))
    return a != b and a.casefold() == b.casefold() and len(b) == 2 and not a.isdecimal()


def option_of(answer: str, options: Sequence[str]) -> int | None:
    """The number of the option that a standard answer names, from 0; None if it names none."""
    same = [i for i, option in enumerate(options) if _same(normal(answer), normal(option))]
    if len(same) == 1 and not _ALONE.fullmatch(answer):
        return same[0]
    if found := _ALONE.fullmatch(answer) or _LEADING.match(answer):
        index = ascii_uppercase.index(found[1] or found[2])
        if index < len(options):
            return index
    return same[0] if len(same) == 1 else None


def _of_options(conclusion: str, right: int, options: Sequence[str]) -> bool | None:
    letters = ascii_uppercase[: len(options)]
    named = _letters(conclusion, letters)
    if named:
        if letters[right] not in named:
            return False
        if len(named) > 1:
            return None
        rest = normal(_LEADING.sub("", conclusion, count=1))
        other = any(_same(rest, normal(option)) for i, option in enumerate(options) if i != right)
        return not other or _same(rest, normal(options[right]))
    given = normal(conclusion)
    same = [i for i, option in enumerate(options) if _same(given, normal(option))]
    if not same:
        if _NEGATION.search(given):
            return None
        same = _mentioned(given, [normal(option) for option in options])
    if right in same:
        return True if len(same) == 1 else None
    return False if same else None


def _letters(text: str, letters: str) -> list[str]:
    """The letters that a text names as its answer; one that no option has only if it can be nothing else."""
    if found := _ALONE.fullmatch(text):
        return [found[1]]
    named = {letter for letter in _NAMED.findall(text) if letter in letters}
    if found := _LEADING.match(text):
        return sorted({*named, found[1] or found[2]})
    return sorted(named or set(letters).intersection(_BRACKETED.findall(text)))


def _mentioned(given: str, options: list[str]) -> list[int]:
    """The options whose text is in the conclusion; of two at one place, the longer ("cube" in "red cube")."""
    found = []
    for i in sorted(range(len(options)), key=lambda i: -len(options[i])):
        if options[i] and (pattern := _as_words(options[i])).search(given):
            given = pattern.sub("\0", given)
            found.append(i)
    return found


def _of_letter(conclusion: str, letter: str) -> bool | None:
    """Compare with a letter whose options are not known."""
    named = _letters(conclusion, ascii_uppercase)
    if len(named) == 1:
        return named[0] == letter
    return None if letter in named or not named else False


def _of_numbers(given: str, value: Fraction) -> bool | None:
    values = _values(given)
    if value in values:
        return None if _NEGATION.search(given) and len(set(values)) > 1 else True
    if not values or len(given.split()) > _SHORT or _SCALE.search(given):
        return None
    return None if any(_near(other, value) for other in values) else False


def _near(given: Fraction, value: Fraction) -> bool:
    """Whether one may be the other rounded (3.14 for 3.1416; 2012 is not 2013), or in per cent."""
    whole = given.denominator == value.denominator == 1
    return (not whole and abs(given - value) * 100 <= abs(value)) or value in (given * 100, given / 100)


def _of_words(given: str, expected: str) -> bool | None:
    if _value(given) is not None and not _values(expected):
        return False
    group = next((group for group in _EXCLUSIVE if expected in group), None)
    if group is not None:
        words = re.findall(r"[a-z]+", given)
        if words and words[0] in group and "yes" in group:  # "No, there is not": the first word decides
            return bool(words[0] == expected)
        named = group.intersection(words)
        if _NEGATION.search(given) and "no" not in group:
            return None
        if len(named) != 1:
            return None
        if expected in named:
            return True
        return False if len(words) <= _SHORT else None
    if _as_words(expected).search(given):
        return None if _NEGATION.search(given) and not _NEGATION.search(expected) else True
    return None


def _as_words(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(text)}(?!\w)")


def _same(a: str, b: str) -> bool:
    """Whether two normal texts are the same, numbers by their value."""
    if a == b:
        return bool(a)
    value = _value(a)
    return value is not None and value == _value(b)


def _value(text: str) -> Fraction | None:
    """The number that a normal text is, as a whole: "3", "three", "$3.00", "3 %"."""
    bare = re.sub(r"^[$€£¥]\s*|\s*[%°]$", "", text)
    if bare in _SMALL:
        return _SMALL[bare]
    return _parsed(bare) if _NUMBER.fullmatch(bare) else None


def _values(text: str) -> list[Fraction]:
    """The numbers in a normal text."""
    found = [_parsed(number) for number in _NUMBER.findall(text)]
    return [value for value in found if value is not None] + [
        _SMALL[word] for word in _NUMBER_WORD.findall(text)
    ]


def _parsed(number: str) -> Fraction | None:
    try:
        return Fraction(number.replace(",", ""))
    except (ValueError, ZeroDivisionError):
        return None
