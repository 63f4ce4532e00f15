"""Whether a conclusion agrees with the standard answer, by comparing their words alone.

Where the words do not settle it ("sofa" for "couch", a free description), the result is None: callers count
that separately, never as right or wrong.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from string import ascii_uppercase

from llava_cot.core.numbers import INVISIBLE, Number, compare_numbers, find_numbers, read_number
from llava_cot.core.units import UNITS, dimension

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

# How a letter is named, if it can be nothing else; "A cube" and "I see" name none. In any case where the
# options are known: "(b)".
_ALONE = re.compile(r"\W*([A-Z])[^\w+#-]*")  # "C++" and "A-" are no letters
_ALONE_ANY_CASE = re.compile(_ALONE.pattern, re.IGNORECASE)
_LEADING = re.compile(r"\W*(?:\(([A-Z])\)|([A-Z])(?:[.):](?=\s|$)|[。、]))", re.IGNORECASE)
_NAMED = re.compile(
    r"\b(?:(?:answer|ans|option|choice|letter)(?: is| would be)?\s*[:=-]?|choose|select|pick)"
    r"\s*(?:option |choice )?[\"'(\[]*([A-Z])(?=[\"').,:;\]]|\s*$|\s+(?:is|as|because|since|which)\b)",
    re.IGNORECASE,
)
_CONFIRMED = re.compile(r"\b([A-Z])\)? (?:is|would be|seems) (?:the )?(?:correct|right|best)\b")
_LAST = re.compile(
    r"\b(?i:it is|it's|therefore|hence|thus|so|i think|i'd say|go with),? (?i:option )?\(?([A-Z])[).]*\s*$"
)
_NEXT = re.compile(r"[\s,;&/]*(?:(?:and|or)\s+)?\(?([A-Z])(?=[).,;]|\s*$)")  # another letter after the first
_NAMED_IN_CHINESE = re.compile(r"(?:答案|选项|选择|选)(?:是|为|:)?\s*\(?([A-Z])(?![A-Za-z])")
_WRAPPED = re.compile(r"\\(?:boxed|text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}")
_NESTED = 3
_BRACKETED = re.compile(r"\(([A-Z])\)")

_INTRODUCTION = re.compile(
    r"\A\W*+(?:(?:so|therefore|thus|hence),? )?(?:the )?(?:final |correct )?(?:answer|result)(?: is)?"
    r"(?: is|\W*:| =)\W*?(?=[\w+-])",
    re.IGNORECASE,
)
_LETTER = re.compile(r"[^\W\d_]")
_CONSTANTS = ("π", "pi", "\\pi", "e", "∞", "infinity", "none", "nothing")  # a number may mean it

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
    number = read_number(answer)
    if number is not None:
        return _of_numbers(conclusion, number)
    if letter := _ALONE.fullmatch(answer):
        return _of_letter(conclusion, letter[1])
    return _of_words(conclusion, answer)


def normal(text: str) -> str:
    """The text in lower case, without a leading article, surrounding marks and repeated white space."""
    text = INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold()
    text = text.replace("grey", "gray").replace("\u2019", "'")
    text = re.sub(r"[*_`\"]+|\\boxed", " ", text)
    text = " ".join(text.split()).strip(" .,:;!?'()[]{}")
    return re.sub(r"^(?:the|an?) (?=\S)", "", text)


def same(a: str, b: str) -> bool:
    """Whether two texts are the same in their normal form, numbers by their value."""
    if normal(a) == normal(b):
        return bool(normal(a))
    first, second = read_number(a), read_number(b)
    return first is not None and second is not None and compare_numbers(first, second) is True


def _differ_by_case(conclusion: str, answer: str) -> bool:
    """Whether two symbols, such as the genotypes "Tt" and "TT", differ in their capitals."""
    a, b = (re.sub(r"\W", "", text) for text in (conclusion, answer))
    return a != b and a.casefold() == b.casefold() and len(b) == 2 and not a.isdecimal()


def option_of(answer: str, options: Sequence[str]) -> int | None:
    """The number of the option that a standard answer names, from 0; None if it names none."""
    answer = _unwrapped(answer)
    meant = [i for i, option in enumerate(options) if same(answer, option)]
    if len(meant) == 1 and not _ALONE.fullmatch(answer):
        return meant[0]
    if found := _ALONE_ANY_CASE.fullmatch(answer) or _LEADING.match(answer):
        index = ascii_uppercase.index(next(filter(None, found.groups())).upper())
        if index < len(options) and options[index]:
            return index
    return meant[0] if len(meant) == 1 else None


def _unwrapped(text: str) -> str:
    """A text without Markdown's marks and LaTeX's boxes."""
    text = re.sub("[*`]", "", text)
    for _ in range(_NESTED):
        text = _WRAPPED.sub(r"\1", text)
    return text


def chosen_option(conclusion: str, options: Sequence[str]) -> int | None:
    """The number of the one option that a conclusion chooses, from 0; None if it chooses none or several."""
    chosen = [i for i, option in enumerate(options) if option and _of_options(conclusion, i, options)]
    return chosen[0] if len(chosen) == 1 else None


def canonical(answer: str, options: Sequence[str] = ()) -> str:
    """One spelling for all answers that mean the same: an option's letter, a number's value, else its words.

    "(B)", "**B**" and option B's text are "b"; "3", "3.0" and "The answer is three" are "3", in one unit.
    """
    answer = _INTRODUCTION.sub("", answer)
    if (chosen := chosen_option(answer, options)) is not None:
        return ascii_uppercase[chosen].lower()
    if (number := read_number(answer)) is not None:
        size = UNITS[number.unit][1] if number.unit in UNITS else 1
        return f"{number.value * size} {dimension(number.unit) if number.unit else ''}".rstrip()
    return normal(answer)


def _of_options(conclusion: str, right: int, options: Sequence[str]) -> bool | None:
    letters = ascii_uppercase[: len(options)]
    conclusion = _unwrapped(unicodedata.normalize("NFKC", conclusion))
    named = _letters(conclusion, letters)
    meant = [i for i, option in enumerate(options) if same(conclusion, option)]
    if named and meant and [letters.find(letter) for letter in named] != meant:
        return None  # the options are letters, in another order
    if named:
        if letters[right] not in named:
            return False
        if len(named) > 1:
            return None
        rest = _LEADING.sub("", conclusion, count=1)
        other = any(same(rest, option) for i, option in enumerate(options) if i != right)
        return not other or same(rest, options[right])
    if not meant:
        given = normal(conclusion)
        if (first := re.match(r"(?:yes|no)\b", given)) and {"yes", "no"} == {
            normal(option) for option in options
        }:
            return normal(options[right]) == first[0]  # "No, there is not": the first word decides
        if _NEGATION.search(given):
            return None
        meant = _mentioned(given, options)
    if right in meant:
        return True if len(meant) == 1 else None
    numeric = read_number(conclusion) is not None and all(map(read_number, filter(None, options)))
    return False if meant or numeric else None


def _letters(text: str, letters: str) -> list[str]:
    """The letters that a text names as its answer; one that no option has only if it can be nothing else."""
    if found := (_ALONE_ANY_CASE if letters != ascii_uppercase else _ALONE).fullmatch(text):
        return [found[1].upper()]
    named = {found[1].upper() for found in _NAMED.finditer(text) if _is_letter(found, letters)}
    for pattern in (_CONFIRMED, _LAST):
        named.update(letter for letter in pattern.findall(text) if letter in letters)
    named.update(letter for letter in _NAMED_IN_CHINESE.findall(text) if letter in letters)
    if (found := _LEADING.match(text)) and (found[1] or found[2]).upper() in letters:
        named.add((found[1] or found[2]).upper())
        another = _NEXT.match(text, found.end())
        return sorted(named | {another[1]} if another and another[1] in letters else named)
    bracketed = set(letters).intersection(_BRACKETED.findall(text))
    return sorted(named or (set() if _NEGATION.search(text.lower()) else bracketed))


def _is_letter(found: re.Match[str], letters: str) -> bool:
    """Whether a letter that is named in any case is an option's; "a" and "i" are words within a text."""
    letter = found[1]
    alone = letter not in "ai" or found[0][-2:-1] == "(" or not found.string[found.end() :].strip(" .)\"'")
    return letter.upper() in letters and alone


def _mentioned(given: str, options: Sequence[str]) -> list[int]:
    """The options that are in the conclusion; of two at one place, the longer ("cube" in "red cube").

    A number is mentioned if it is one of the conclusion's numbers, not a part of one.
    """
    texts, numbers = [normal(option) for option in options], [read_number(option) for option in options]
    values = [number for number in find_numbers(given) if number is not None]
    found = []
    for i in sorted(range(len(options)), key=lambda i: -len(texts[i])):
        if (number := numbers[i]) is not None:
            if any(compare_numbers(number, value) is True for value in values):
                found.append(i)
        elif texts[i] and (pattern := _as_words(texts[i])).search(given):
            given = pattern.sub("\0", given)
            found.append(i)
    return found


def _of_letter(conclusion: str, letter: str) -> bool | None:
    """Compare with a letter whose options are not known."""
    named = _letters(conclusion, ascii_uppercase)
    if len(named) == 1:
        return named[0] == letter
    return None if letter in named or not named else False


def _of_numbers(conclusion: str, number: Number) -> bool | None:
    """Compare with a number: the conclusion is one, or has it among its numbers."""
    whole = read_number(conclusion)
    found = find_numbers(conclusion) if whole is None else [whole]
    if len(found) > 1 and "=" not in conclusion and not _LETTER.search(conclusion):
        return None  # a list, or a calculation
    equal = [None if other is None else compare_numbers(other, number) for other in found]
    if True in equal:
        others = {(other.value, other.unit) for other in found if other is not None}
        return None if _NEGATION.search(normal(conclusion)) and len(others) > 1 else True
    if not found or len(conclusion.split()) > _SHORT or None in equal:
        return None
    return False


def _of_words(conclusion: str, answer: str) -> bool | None:
    given, expected = normal(conclusion), normal(answer)
    if read_number(conclusion) is not None and not find_numbers(answer) and expected not in _CONSTANTS:
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
    """A text as whole words; digits at its ends are whole numbers ("3:2" is not in "3:25")."""
    return re.compile(rf"(?:(?<!\w)|(?<=[是为]))(?<!\d[.,:/-]){re.escape(text)}(?!\w)(?![.,:/-]\d)")
