"""Numbers as people write them: read whole or not at all, and compared by value and unit.

Libraries were tried on the forms of `tests/core/test_numbers.py`. quantulum3 0.10, math-verify 0.9 and babel
2.19 take a part of some for the number (3 of "3:2", 1.234 of "1.234,56", 2012 of a date), and the first takes
seconds to load; text2num 3.1 reads cardinals only, in a text from which they have already been cut.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

from llava_cot.core.number_words import VOCABULARY, words_at
from llava_cot.core.units import (
    CURRENCIES,
    MONEY,
    MONEY_LETTERS,
    SCALE_LETTERS,
    SCALES,
    TEMPERATURES,
    UNIT_NAMES,
    UNITS,
    dimension,
    unit_at,
    unit_name,
)

# Powers beyond this are not read: they would be computed in full.
_MAX_EXPONENT = 400
_MAX_LENGTH = 1000  # of a token, in characters; Python reads no integer of more than 4,300 digits


@dataclass(frozen=True)
class Number:
    """A number with its unit.

    Attributes:
        value: Its exact value, in its unit.
        unit: A name in `units.UNITS`, or as it is written ("m/s^2"); "" for none.
        others: Its other readings: "3K" is 3,000, or 3 kelvin; "50%" is also 0.5.
    """

    value: Fraction
    unit: str = ""
    others: tuple[tuple[Fraction, str], ...] = ()


def read_number(text: str) -> Number | None:
    """The number that a text is as a whole; None for anything else.

    Signs, thousands separators, decimals, fractions, powers, scientific notation, scale words and letters,
    English number words, digits of any script, currencies, percent and common units are read. Ranges, ratios,
    dates and versions are not, nor is "1,5", which may be a decimal or a list.
    """
    tokens = _tokens(text)
    number, end = _number_at(tokens, 0) if tokens else (None, 0)
    return number if end == len(tokens) else None


def find_numbers(text: str) -> list[Number | None]:
    """The numbers in a text, in order.

    None stands for something that is not read whole ("3:2", "B2", "3-5"), or that is no one number: "more
    than 3", "3 or 4", "3 + 4", "hundreds".
    """
    tokens = _tokens(text)
    found: list[Number | None] = []
    before: Number | None = None
    at = last = listed = 0  # last: the end of the number before; listed: the first number of its list
    while at < len(tokens):
        number, end = _number_at(tokens, at)
        if end > at and not _is_pronoun(tokens, at, end):
            link = " ".join(tokens[last:at]).lower() if found else ","
            joined = _joins_numbers(link, before, number)
            if joined:
                found[listed:] = [None] * (len(found) - listed)
            listed = listed if joined or (link == "," and found) else len(found)
            vague = joined or link in _OF or _is_changed(tokens, at, end)
            found.append(None if vague else number)
            last, before = end, number
        at = max(end, at + 1)
    return found


def compare_numbers(a: Number, b: Number) -> bool | None:
    """Whether two numbers are equal; None if they may be: one is rounded, or has another reading.

    Units of one dimension are converted. A unit that only one of them has makes no difference.
    """
    if _equal((a.value, a.unit), (b.value, b.unit)):
        return True
    readings = [(x, y) for x in ((a.value, a.unit), *a.others) for y in ((b.value, b.unit), *b.others)]
    if any(_equal(x, y) for x, y in readings):
        return None
    if any(_close(x, y) for x, y in readings):
        return None  # 3.14 may be 3.1416; 2012 is not 2013
    common = _in_common_unit((a.value, a.unit), (b.value, b.unit))
    if common is None:
        return None if {dimension(a.unit), dimension(b.unit)} <= TEMPERATURES else False
    x, y = sorted(common, key=abs)
    if not a.unit and not b.unit and abs(x) < 1 and x * 100 == y and x:
        return None  # a share, and the same in per cent
    return False


_Reading = tuple[Fraction, str]


def _equal(a: _Reading, b: _Reading) -> bool:
    common = _in_common_unit(a, b)
    return common is not None and common[0] == common[1]


def _close(a: _Reading, b: _Reading) -> bool:
    """Whether one may be the other one rounded."""
    common = _in_common_unit(a, b)
    if common is None or (common[0].denominator, common[1].denominator) == (1, 1):
        return False
    return abs(common[0] - common[1]) * 100 <= max(map(abs, common))


def _in_common_unit(a: _Reading, b: _Reading) -> tuple[Fraction, Fraction] | None:
    """Both values in one unit; None if the units have different dimensions."""
    if a[1] == b[1] or not a[1] or not b[1]:
        return a[0], b[0]
    if dimension(a[1]) != dimension(b[1]):
        return None
    return a[0] * UNITS[a[1]][1], b[0] * UNITS[b[1]][1]


# From text to tokens

INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
_INDEX = re.compile("(?<=.)(?=[₀-₉])")  # "5₂" is not 52
_VULGAR = re.compile("(?<=[0-9])(?=[¼-¾⅐-⅞])")
_PLAIN = str.maketrans(
    {
        "−": "-", "–": "-", "‐": "-", "‑": "-", "⁄": "/", "∕": "/", "٫": ".", "٬": ",", "’": "'",
        "×": "x", "·": "x", "⋅": "x", "٪": "%", "‘": "'", "“": '"', "”": '"', "«": '"', "»": '"',
    }
)  # fmt: skip
_LATEX = (
    (re.compile(r"\{,\}"), ","),
    (
        re.compile(r"((?<![^\s$({\[=])-)?\\[cdt]?frac\s*+\{\s*+([^{}]*+)\}\s*+\{\s*+([^{}]*+)\}"),
        r" \1\2/\3 ",
    ),
    (re.compile(r"\\(?:boxed|text|mathrm|mathbf)\s*\{\s*+([^{}]*+)\}(\^\{?[0-9]\}?)?"), r" \1\2 "),
    (re.compile(r"\\(?:times|cdot)\b"), "x"),
    (re.compile(r"\^\s*+(?:\{\s*+)?\\circ(?:\s*+\})?|\\degree\b"), "°"),
    (re.compile(r"\^\s*\{\s*([-+]?\d+)\s*\}"), r"^\1"),
    (re.compile(r"\\([%$])"), r"\1"),
    (re.compile(r"\\[,;:! ()\[\]]|~"), " "),
)
_IN_DOLLARS = re.compile(r"\s*\$\$?([^$]*)\$\$?[\s.]*")
_GROUPS = re.compile("(?<=[0-9])[\u00a0\u2007\u2009\u202f](?=[0-9]{3}(?![0-9]))")
_TIMES_TEN = re.compile(r"(?<=[0-9])\s*[x*]\s*10\s*\^\s*\(?([-+]?[0-9]+)\)?")
_POWER = re.compile(r"(?<=[0-9])[ \t]*(?:\^|(?<! )\*\*)[ \t]*(?=[-+0-9{(])")
_OPERATOR = re.compile(r"(?<=[0-9])[ \t]*([/x*÷])[ \t]*(?=[0-9])|(?<=[0-9])[ \t]+(:)[ \t]+(?=[0-9])")
_EQUATION = re.compile(r"(?<=[\w)}])=(?=[-+\w({$\\])")
_BETWEEN = re.compile(  # two numbers: a comma, a bracket, the end of a line
    r"(?:(?<=\S)[,;:]|(?<=[0-9])[.!?])(?=\s+[-+$(]*[0-9])|(?<=[0-9])(?=[ \t]+\([-+$]*[0-9])"
    r"|(?<=\S)(?=[ \t]*\n\s*[-+$(]*[0-9])"
)
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
_AROUND_CJK = re.compile(f"(?<=[0-9.%])(?=[{_CJK}])|(?<=[{_CJK}])(?=[-+$0-9{_CJK}])")
_CJK_UNITS = {
    "千克": "kg",
    "公斤": "kg",
    "千米": "km",
    "公里": "km",
    "千瓦": "kW",
    "厘米": "cm",
    "毫米": "mm",
}
_MARKS = "*_`\"'()[]{}|"
_STOPS = ",;:!?。、"


def _tokens(text: str) -> list[str]:
    """The words of a text in plain characters, without marks and punctuation at their ends."""
    text = INVISIBLE.sub("", text)
    text = _SUPERSCRIPT.sub(lambda found: "^" + unicodedata.normalize("NFKC", found[0]), text)
    text = _GROUPS.sub("", _INDEX.sub("_", _VULGAR.sub(" ", text)))
    text = unicodedata.normalize("NFKC", text).translate(_PLAIN)
    if not text.isascii():
        text = "".join(str(unicodedata.decimal(char, char)) for char in text)
        for written, unit in _CJK_UNITS.items():
            text = text.replace(written, f" {unit} ")
    if found := _IN_DOLLARS.fullmatch(text):
        text = found[1]
    if "\\" in text or "^" in text or "{,}" in text:
        for pattern, plain in _LATEX:
            text = pattern.sub(plain, text)
    text = _TIMES_TEN.sub(r"e\1", _POWER.sub("^", text))
    text = _EQUATION.sub(" = ", _OPERATOR.sub(r"\1\2", _AROUND_CJK.sub(" ", text)))
    tokens: list[str] = []
    for word in _BETWEEN.sub(lambda found: " , " if found[0] == "," else " ; ", text).split():
        if word in (",", ";", "=") and tokens:
            tokens.append(word)
            continue
        token = word.rstrip("." + _STOPS + _MARKS).lstrip("=~≈" + _STOPS + _MARKS)
        parts = token.split("-")
        tokens += parts if all(part.lower() in VOCABULARY for part in parts) else [token] if token else []
    return tokens


# From tokens to numbers

_WHOLE = (
    r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}"
    r"|[1-9][0-9]{0,2}(?:'[0-9]{3})+|[0-9]+)"
)
_NUMBER = re.compile(
    rf"""
    (?P<sign>[-+])? (?P<currency>us\$|[$€£¥₹₩])? (?P<inner>[-+])?
    (?>
        (?P<european>[0-9]{{1,3}}(?:(?:\.[0-9]{{3}})+,[0-9]+|(?:\.[0-9]{{3}}){{2,}}))
      | (?P<top>{_WHOLE})/(?P<bottom>{_WHOLE})
      | (?P<base>{_WHOLE})\^\(?(?P<power>[-+]?[0-9]+)\)?
      | (?P<plain>(?:{_WHOLE}(?:\.[0-9]+)?|\.[0-9]+)(?:e[-+]?[0-9]+)?)
    )
    (?![0-9]|[.,:/^'][0-9])
    (?P<rest>.*)
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_COMPOUND = re.compile(r"-[a-z]+(?:-[a-z]+)*", re.IGNORECASE)  # "5-sided", "3-year-old"
_DECADE = re.compile(r"[0-9]{3}0s")
_GROUP = re.compile(r"[0-9]{3}(?:\.[0-9]+)?")
_PROPER = re.compile("([0-9]+)/([0-9]+)")
_MAYBE_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}\.[0-9]{3}")  # "1.234", as many countries write 1,234
_HAS_DIGIT = re.compile("[0-9]")


def _number_at(tokens: list[str], at: int) -> tuple[Number | None, int]:
    """The number that begins at this token, and where it ends: "6 feet 2 inches" is one.

    None with a later end is something that is not read whole; None with this very place is no number.
    """
    number, end = _one_unit_at(tokens, at)
    unit = "" if number is None else number.unit
    while number is not None and unit in UNITS and end < len(tokens):
        start = end + (tokens[end].lower() == "and")
        part, part_end = _one_unit_at(tokens, start) if start < len(tokens) else (None, start)
        if part is None or part.unit not in UNITS or UNITS[part.unit][0] != UNITS[unit][0]:
            break
        if not UNITS[part.unit][1] <= part.value * UNITS[part.unit][1] < UNITS[unit][1]:
            break
        sign = -1 if number.value < 0 else 1
        added = sign * part.value * UNITS[part.unit][1] / UNITS[number.unit][1]
        number, unit, end = Number(number.value + added, number.unit), part.unit, part_end
    return number, end


def _one_unit_at(tokens: list[str], at: int) -> tuple[Number | None, int]:
    """As `_number_at`, of a number with one unit at most."""
    start, negative = at, False
    if tokens[at].lower() in ("minus", "negative") and at + 1 < len(tokens):
        start, negative = at + 1, True
    currency = CURRENCIES.get(tokens[start].lower(), "")
    if currency:
        start += 1
        if start == len(tokens) or not _HAS_DIGIT.search(tokens[start]):
            return None, at
    digits = _HAS_DIGIT.search(tokens[start])
    number, end = _digits_at(tokens, start) if digits else _in_words(tokens, start)
    if end == start:
        return None, at
    after_minus = start and tokens[start - 1] == "-"  # a difference, or an item of a list
    if number is None or after_minus or (negative and number.value < 0) or (currency and number.unit):
        return None, end
    value, unit, others = number.value, currency or number.unit, number.others
    if not others and (not unit or dimension(unit) in MONEY):
        value, end = _scaled(tokens, value, end)
    if not unit:
        unit, end = unit_at(tokens, end)
        if (last := tokens[end - 1]) in SCALE_LETTERS and unit:  # 3 K: 3 kelvin, or 3,000
            others = (*others, (value * SCALE_LETTERS[last], ""))
    if unit == "%":
        others = (*others, (value / 100, ""))
    sign = -1 if negative else 1
    return Number(sign * value, unit, tuple((sign * other, name) for other, name in others)), end


def _scaled(tokens: list[str], value: Fraction, at: int) -> tuple[Fraction, int]:
    """A value times the scale words that follow it, and where they end; "3万5千" is 35,000."""
    total, least = Fraction(0), Fraction(10) ** _MAX_EXPONENT
    while True:
        size, start = Fraction(1), at
        while at < len(tokens) and (scale := SCALES.get(tokens[at].lower())) and size < least:
            size, at = size * scale, at + 1
        total, least = total + value * size, size
        more = at > start and not tokens[at - 1].isascii() and at < len(tokens) and tokens[at].isdigit()
        if not more or len(tokens[at]) > _MAX_LENGTH:
            return total, at
        value, end = Fraction(tokens[at]), at + 1
        after = SCALES.get(tokens[end].lower(), 1) if end < len(tokens) else 1
        if value * after >= least:
            return total, at
        at = end


def _digits_at(tokens: list[str], at: int) -> tuple[Number | None, int]:
    """As `_number_at`, of a token with digits, with what is attached to it."""
    end = at + 1
    found = _NUMBER.fullmatch(tokens[at][:_MAX_LENGTH])
    value = None if found is None else _value(found)
    too_long = len(tokens[at]) > _MAX_LENGTH
    if found is None or value is None or too_long or (found["sign"] and found["inner"]):
        return None, end
    rest, plain = found["rest"], found["plain"] or ""
    if not rest and plain.isdigit() and end < len(tokens):
        part, part_end = _part_at(tokens, end)
        if part:
            value, end = value + part, part_end
        elif len(plain) <= 3 and _GROUP.fullmatch(tokens[end]):  # groups of thousands, or a list
            while end < len(tokens) and _GROUP.fullmatch(tokens[end]):
                value, end = value * 1000 + Fraction(tokens[end]), end + 1
                if "." in tokens[end - 1]:
                    break
            if at or end < len(tokens):
                return None, end
    value = -value if "-" in (found["sign"], found["inner"]) else value
    unit = CURRENCIES[found["currency"].lower()] if found["currency"] else ""
    if not rest:
        thousands = ((value * 1000, unit),) if _MAYBE_THOUSANDS.fullmatch(plain) else ()
        return Number(value, unit, thousands), end
    if rest in SCALE_LETTERS or (unit and rest in MONEY_LETTERS):
        scaled = value * (SCALE_LETTERS.get(rest) or MONEY_LETTERS[rest])
        others = ((value, UNIT_NAMES[rest]),) if rest in UNIT_NAMES and not unit else ()
        return Number(scaled, unit, others), end
    if rest.lower().lstrip("-") in SCALES:
        return Number(value * SCALES[rest.lower().lstrip("-")], unit), end
    name = unit_name(rest.lstrip("-"))
    if name and not unit and not _DECADE.fullmatch(tokens[at]):
        return Number(value, name, ((value * 10**6, ""),) if rest == "m" else ()), end
    if rest.lower() in _VAGUE:
        return None, end
    if _COMPOUND.fullmatch(rest) and not unit:
        return Number(value, unit_name(rest.split("-")[1])), end
    return None, end


def _part_at(tokens: list[str], at: int) -> tuple[Fraction | None, int]:
    """The rest of a mixed number, such as "1/2" or "and a half", and where it ends."""
    start = at + (tokens[at].lower() == "and")
    if start == len(tokens):
        return None, at
    if found := _PROPER.fullmatch(tokens[start][:_MAX_EXPONENT]):
        top, bottom = int(found[1]), int(found[2])
        return (Fraction(top, bottom), start + 1) if 0 < top < bottom else (None, at)
    part, end = words_at(tokens, start) if start > at else (None, at)
    return (part, end) if part is not None and part.denominator > 1 and part < 1 else (None, at)


def _in_words(tokens: list[str], at: int) -> tuple[Number | None, int]:
    value, end = words_at(tokens, at)
    return None if value is None else Number(value), end


def _value(found: re.Match[str]) -> Fraction | None:
    """The value of a match without its sign; None if it is too large, or divided by zero."""
    european, top, bottom, base, power, plain = (
        None if found[name] is None else found[name].replace("'", "").lower()
        for name in ("european", "top", "bottom", "base", "power", "plain")
    )
    if european:
        return Fraction(european.replace(".", "").replace(",", "."))
    top, bottom, base, plain = (
        None if part is None else part.replace(",", "") for part in (top, bottom, base, plain)
    )
    if top and bottom:
        return Fraction(int(top), int(bottom)) if int(bottom) else None
    digits, _, exponent = (base or plain or "0").replace(",", "").partition("e")
    exponent = power or exponent or "0"
    if abs(int(exponent)) * (len(digits) if base else 1) > _MAX_EXPONENT:
        return None
    if base:
        return Fraction(digits) ** int(exponent) if int(digits) or int(exponent) >= 0 else None
    return Fraction(digits) * Fraction(10) ** int(exponent)


# Words around numbers

# Between two numbers: neither of them is what the text says.
_OPERATORS = {
    "to", "through", "until", "till", "by", "-", "—", "x", "*", "+", "/", "÷", ":", "^", "±", "+/-", "plus",
    "minus", "times", "divided by", "to the", "to the power of", "and", "&",
}  # fmt: skip
_PLACES = ("1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th", "9th", "0th")
_OF = {"of", "of the", "out of", "out of the"}  # "3 of the 12" is 3
# What stands directly before a number, or after it, and makes it a bound, a part or something else.
_BEFORE = re.compile(
    r"(?:^|\s)(?:than|over|under|below|above|beyond|nearly|almost|within|before|after|except|between|twice"
    r"|double|triple|at (?:least|most)|up to|no more|as (?:many|few|much|little) as|excess of|upwards of"
    r"|close to|or equal to|anything but|roots? of|not|never|neither|nor|without|[a-z]+n't|[<>≤≥]=?|±|\+/-"
    r"|\\?(?:sqrt|log|ln|sin|cos|tan)|√)$"
)
_AFTER = re.compile(
    r"(?:or (?:more|less|fewer|so|above|below|higher|lower|greater|larger|smaller|over|under)"
    r"|and (?:up|above|more|over|below|under)|at (?:least|most)|below zero|squared|cubed|plus|±|\+/-"
    r"|\\?(?:pi|sqrt)\b.*|[π√].*|(?:hundredth|thousandth|millionth|billionth)s?|grand|something"
    r"|per mille|basis points?)(?:$|\s)"
)
_VAGUE = {"-ish", "-odd", "-plus", "-some", "-something"}


def _joins_numbers(link: str, before: Number | None, number: Number | None) -> bool:
    """Whether the words between two numbers make them one thing: a range, a choice, a calculation."""
    if before is not None and number is not None and compare_numbers(before, number) is True:
        return link not in ("", "=", ",", ";") and link in _OPERATORS
    if link in _OF:
        return before is None or before.value.denominator > 1 or before.unit == "%"
    one_in_five = link == "in" and before is not None and before.value == 1
    return link == "" or link in _OPERATORS or link == "or" or link.startswith("or ") or one_in_five


_BEFORE_PRONOUN = {"the", "no", "this", "that", "which", "any", "each", "every", "other", "another", "some"}
_ARTICLES = {"a", "an", "the", "this", "that", "another", "every"}
_NO_ADJECTIVES = {
    "is", "are", "only", "exactly", "just", "answer", "total", "number", "count", "result", "sum",
    "value", "to",
}  # fmt: skip
_AFTER_PRONOUN = {"of", "on", "in", "at", "with", "that", "who", "which", "another", "side"}


def _is_pronoun(tokens: list[str], at: int, end: int) -> bool:
    """Whether a number is the word "one" in the place of a noun: "the one on the left"."""
    if tokens[at].lower() != "one" or end != at + 1:
        return False
    before = tokens[at - 1].lower() if at else ""
    after = tokens[end].lower() if end < len(tokens) else ""
    if after == "in" and end + 1 < len(tokens) and _number_at(tokens, end + 1)[1] > end + 1:
        return False  # one in five
    two_before = tokens[at - 2].lower() if at > 1 else ""
    red_one = not after and two_before in _ARTICLES and before not in _NO_ADJECTIVES
    return red_one or before in _BEFORE_PRONOUN or after in _AFTER_PRONOUN or before.endswith(_PLACES)


def _is_changed(tokens: list[str], at: int, end: int) -> bool:
    """Whether the words next to a number change it: "more than 3", "3 or more", "not 3"."""
    before = " ".join(tokens[max(0, at - 3) : at]).lower()
    after = " ".join(tokens[end : end + 2]).lower()
    return _BEFORE.search(before) is not None or _AFTER.match(after) is not None
