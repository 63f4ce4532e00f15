"""Equations in a text, and whether they hold: `3 + 4 = 7`, `2 x 3 = 6`, `1 + 2 + 3 = 3 + 3 = 6`, `1/4 = 25%`.

An equation is parsed by Python's parser, its numbers replaced by names, and evaluated in exact fractions: no
text is ever executed, and no digit is lost. An equation that may mean something else (next to a variable, a
unit, a word such as "of") is skipped, since a rule that finds a fault must be right.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

# What goes beyond these is left out. They bound how long is looked, and how large a number can grow.
_DIGITS, _BRACKETS, _TERMS, _SIDES, _POWER, _BITS = 15, 6, 16, 8, 64, 4096

_SIGNS = str.maketrans("−–×·∗⋅÷", "--****/")
_GAP = r"[^\S\n]*+"
_BOLD = re.compile(r"(?<![\d)])\*\*(?=\S)|(?<=\S)\*\*(?![\d(-])")
# The quantifiers give nothing back: what was read as a number is never read again as a shorter one.
_DECIMALS = rf"(?:\.\d{{1,{_DIGITS}}}+)?+"
_NUMBER = (
    rf"[$€£]?(?>\d{{1,3}}(?:,\d{{3}}){{1,4}}+(?!\d){_DECIMALS}|\d{{1,{_DIGITS}}}+{_DECIMALS})"
    r"(?![\w(\[{]|[.,]\d)(?:[ ]?\\?%|°)?+"
)
_SIGN = r"(?>\*\*|[-+*/^]|(?<=[ ])[xX](?=[ ])|\\(?:times|cdot|div)(?![A-Za-z]))"
_ITEM = rf"(?:\({_GAP}){{0,{_BRACKETS}}}+-?{_NUMBER}(?:{_GAP}\)){{0,{_BRACKETS}}}+"
_SIDE = rf"{_ITEM}(?:{_GAP}{_SIGN}{_GAP}{_ITEM}){{0,{_TERMS - 1}}}+"
_CHAIN = re.compile(rf"(?<![\w.,:)\]}}]){_SIDE}(?:{_GAP}={_GAP}{_SIDE}){{1,{_SIDES - 1}}}+")
_TOKEN = re.compile(rf"(?P<number>{_NUMBER})|(?P<sign>{_SIGN})")
_PARTS = re.compile(r"[$€£]?(?P<digits>[\d,]+)(?:\.(?P<decimals>\d+))?(?P<mark>.*)", re.DOTALL)

# What makes an equation the end, or the beginning, of something longer.
_BULLET = re.compile(rf"(?:^|\n){_GAP}[-*+][^\S\n]++$")
_WORDS = "mod|times|plus|minus|over|x"
_BEFORE = re.compile(rf"(?:[-+*/^\[{{√]|\b(?:{_WORDS}|of|by|per|root)){_GAP}$", re.IGNORECASE)
_AFTER = re.compile(
    rf"{_GAP}(?:[+*/^²³√]|-{_GAP}(?:[\d(]|[a-z]\b)|\({_GAP}(?:[\d-]|[a-z]\b)|\\(?:times|cdot|div|frac|sqrt|pi)"
    rf"|(?:{_WORDS}|dozen|hundred|thousand|million|billion)\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Equation:
    """What stands in the text, and whether it holds."""

    text: str
    holds: bool


@dataclass(frozen=True)
class _Side:
    """`value` takes per cent for hundredths, `plain` for nothing. `unit` is that of a bare number's last
    decimal, in `plain`: 0 for one that is not rounded, and for what was worked out."""

    value: Fraction
    plain: Fraction
    unit: Fraction
    percent: bool
    bare: bool


class _Unread(Exception):
    """What was found is no arithmetic, or too large."""


def equations(text: str) -> list[Equation]:
    """The equations with an operation in them, in the order of the text, in linear time.

    A result with decimals may be rounded or cut off (`10 / 3 = 3.33`), and so may one in per cent, which
    may also be of a hundred already (`3 / 12 x 100 = 25%`).
    """
    text = _BOLD.sub("  ", text)
    plain = text.translate(_SIGNS)
    found = []
    for match in _CHAIN.finditer(plain):
        start, end, sides = _balanced(match)
        before = plain[max(0, start - 40) : start]
        if (_BEFORE.search(before) and not _BULLET.search(before)) or _AFTER.match(plain, end):
            continue
        try:
            values = [_side(side) for side in sides]
        except _Unread:
            continue
        except ZeroDivisionError:
            found.append(Equation(" ".join(text[start:end].split()), False))
            continue
        if not all(value.bare for value in values):
            holds = all(_same(a, b) for a, b in pairwise(values))
            found.append(Equation(" ".join(text[start:end].split()), holds))
    return found


def _balanced(match: re.Match[str]) -> tuple[int, int, list[str]]:
    """Where an equation begins and ends without the brackets that it stands in, and its sides."""
    start, sides = match.start(), match[0].split("=")
    while sides[0].startswith("(") and sides[0].count("(") > sides[0].count(")"):
        sides[0] = sides[0][1:].lstrip()
    while sides[-1].endswith(")") and sides[-1].count(")") > sides[-1].count("("):
        sides[-1] = sides[-1][:-1].rstrip()
    whole = "=".join(sides)
    start += match[0].index(whole)
    return start, start + len(whole), sides


def _side(text: str) -> _Side:
    numbers: list[re.Match[str]] = []

    def name(token: re.Match[str]) -> str:
        if token["number"] is not None:
            parts = _PARTS.fullmatch(token["number"])
            assert parts is not None
            numbers.append(parts)
            return f" n{len(numbers) - 1} "
        sign = token["sign"].lstrip("\\").lower()
        return {"x": "*", "times": "*", "cdot": "*", "div": "/", "^": "**"}.get(sign, sign)

    source = _TOKEN.sub(name, text).strip()
    try:
        tree = ast.parse(source, mode="eval").body
    except SyntaxError:
        raise _Unread from None
    percent = ["%" in number["mark"] for number in numbers]
    if any(percent) and not all(percent) and any(isinstance(n, ast.Add | ast.Sub) for n in ast.walk(tree)):
        raise _Unread  # "50 + 10%" is 55 to some
    values = [Fraction(f"{n['digits'].replace(',', '')}.{n['decimals'] or 0}") for n in numbers]
    hundredths = [v / 100 if p else v for v, p in zip(values, percent, strict=True)]
    bare = len(numbers) == 1
    places = len(numbers[0]["decimals"] or "")
    unit = Fraction(1, 10**places) if bare and (places or percent[0]) else Fraction(0)
    return _Side(_worked(tree, hundredths), _worked(tree, values), unit, any(percent), bare)


def _worked(node: ast.AST, values: Sequence[Fraction]) -> Fraction:
    match node:
        case ast.Name(id=name):
            return values[int(name[1:])]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_worked(operand, values)
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _worked(left, values), _worked(right, values)
            match op:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case ast.Div():
                    return a / b
                case ast.Pow():
                    return _power(a, b)
    raise _Unread


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if exponent.denominator != 1 or abs(exponent) > _POWER or size * abs(exponent) > _BITS:
        raise _Unread
    return Fraction(base ** int(exponent))


def _same(a: _Side, b: _Side) -> bool:
    """Whether two neighbors are equal, either being the other's result."""
    return any(_gives(left, right) for left, right in ((a, b), (b, a)))


def _gives(work: _Side, result: _Side) -> bool:
    of_a_hundred = result.bare and result.percent and not work.percent
    unit = result.unit / 100 if result.percent else result.unit
    return _near(work.value, result.value, unit) or (
        of_a_hundred and _near(work.plain, result.plain, result.unit)
    )


def _near(exact: Fraction, shown: Fraction, unit: Fraction) -> bool:
    """Whether what is shown is the exact value, or that rounded or cut off to whole units."""
    rounded = abs(exact - shown) <= unit / 2
    cut = 0 <= (exact - shown) * (1 if exact > 0 else -1) < unit
    return rounded or cut
