"""Scale words, currencies and units, and the size of each unit in its dimension."""

from __future__ import annotations

import re
from fractions import Fraction

SCALES = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12,
    "lakh": 10**5, "crore": 10**7, "mln": 10**6, "mn": 10**6, "bn": 10**9,
    "十": 10, "百": 10**2, "千": 10**3, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8,
}  # fmt: skip
SCALE_LETTERS = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
MONEY_LETTERS = {"m": 10**6, "b": 10**9, "t": 10**12}
CURRENCIES = {
    "$": "$", "us$": "$", "usd": "$", "€": "€", "eur": "€", "£": "£", "gbp": "£", "¥": "¥", "jpy": "¥",
    "₹": "₹", "inr": "₹", "rs": "₹", "₩": "₩", "krw": "₩", "chf": "CHF", "cny": "CNY", "rmb": "CNY",
}  # fmt: skip

# Units by dimension: their size in the dimension's first unit, and how they are written. In lower case any
# case is read, otherwise the case that stands here.
_DIMENSIONS: dict[str, tuple[tuple[Fraction | int, str], ...]] = {
    "ratio": ((1, "% percent pct"), (Fraction(1, 10), "‰")),
    "place": ((1, "st nd rd th"),),
    "dollar": ((1, "$ usd dollar dollars"), (Fraction(1, 100), "¢ cent cents")),
    "euro": ((1, "€ eur euro euros"),),
    "pound": ((1, "£ gbp"),),
    "yen": ((1, "¥ jpy yen"),),
    "rupee": ((1, "₹ inr rupee rupees"),),
    "won": ((1, "₩ krw"),),
    "franc": ((1, "CHF"),),
    "yuan": ((1, "CNY rmb yuan"),),
    "length": (
        (1, "m meter meters metre metres"),
        (Fraction(1, 10**9), "nm"),
        (Fraction(1, 10**6), "µm μm"),
        (Fraction(1, 1000), "mm millimeter millimeters millimetre millimetres"),
        (Fraction(1, 100), "cm centimeter centimeters centimetre centimetres"),
        (Fraction(1, 10), "dm"),
        (1000, "km kilometer kilometers kilometre kilometres"),
        (Fraction(254, 10000), "inch inches"),
        (Fraction(3048, 10000), "ft foot feet"),
        (Fraction(9144, 10000), "yd yard yards"),
        (Fraction(1609344, 1000), "mi mile miles"),
    ),
    "area": (
        (1, "m^2 sqm"), (Fraction(1, 10**4), "cm^2"), (Fraction(1, 10**6), "mm^2"), (10**6, "km^2"),
        (10**4, "ha"),
    ),
    "volume": (
        (1, "l liter liters litre litres dm^3"), (Fraction(1, 1000), "ml cm^3 cc"), (1000, "m^3"),
    ),
    "mass": (
        (1, "kg kilogram kilograms"), (Fraction(1, 1000), "g gram grams"), (Fraction(1, 10**6), "mg"),
        (1000, "ton tons tonne tonnes"), (Fraction(45359237, 10**8), "lb lbs"),
        (Fraction(28349523125, 10**12), "oz"),
    ),
    "time": (
        (1, "s sec second seconds"), (Fraction(1, 1000), "ms"), (60, "min minute minutes"),
        (3600, "h hr hrs hour hours"), (86400, "day days"), (604800, "week weeks"),
    ),
    "age": ((1, "year years yr yrs"), (Fraction(1, 12), "month months")),
    "speed": ((1, "m/s mps"), (Fraction(10, 36), "km/h kmh kph"), (Fraction(44704, 10**5), "mph mi/h")),
    "angle": ((1, "° deg degree degrees"),),
    "celsius": ((1, "°C °c ℃ celsius"),),
    "fahrenheit": ((1, "°F °f ℉ fahrenheit"),),
    "kelvin": ((1, "K kelvin"),),
    "data": ((1, "byte bytes"), (10**3, "kb"), (10**6, "mb"), (10**9, "gb"), (10**12, "tb")),
    "frequency": ((1, "hz"), (10**3, "khz"), (10**6, "mhz"), (10**9, "ghz")),
    "power": ((1, "W watt watts"), (10**3, "kw"), (10**6, "MW"), (10**9, "GW")),
    "energy": ((1, "J joule joules"), (10**3, "kj")),
    "voltage": ((1, "V volt volts"), (Fraction(1, 1000), "mV"), (10**3, "kV")),
    "current": ((1, "amp amps ampere amperes"), (Fraction(1, 1000), "mA")),
    "force": ((1, "N newton newtons"), (10**3, "kN")),
    "pressure": ((1, "Pa pascal pascals"), (10**3, "kPa"), (10**6, "MPa")),
}  # fmt: skip
UNIT_NAMES = {
    word: words.split()[0]
    for units in _DIMENSIONS.values() for _, words in units for word in words.split()
}  # fmt: skip
UNITS: dict[str, tuple[str, Fraction | int]] = {
    words.split()[0]: (dimension, size) for dimension, units in _DIMENSIONS.items() for size, words in units
}
TEMPERATURES = {"celsius", "fahrenheit", "kelvin"}
MONEY = {UNITS[name][0] for name in CURRENCIES.values()}


_POWERS = {"square": 2, "sq": 2, "cubic": 3}
# A unit of others, such as "m/s^2", which is read as it is written.
_MADE_UP = re.compile(r"[A-Za-zµμΩ°]{1,5}(?:/[A-Za-zµμΩ°]{1,5}(?:\^-?[0-9])?|\^-?[0-9])")


def dimension(unit: str) -> str:
    """The dimension of a unit. One that is not in `UNITS` has its own."""
    return UNITS[unit][0] if unit in UNITS else unit


def unit_name(word: str) -> str:
    """The name of a unit as it is written; "" for a word that is none."""
    return UNIT_NAMES.get(word) or UNIT_NAMES.get(word.lower(), "")


def unit_at(tokens: list[str], at: int) -> tuple[str, int]:
    """The unit that is written after a number, and where it ends. A single letter must be the last word."""
    two = " ".join(tokens[at : at + 2]).lower()
    if two == "per cent":
        return "%", at + 2
    if two in ("degrees celsius", "degrees fahrenheit", "degrees c", "degrees f"):
        return UNIT_NAMES["°" + two.split()[1][0]], at + 2
    if at == len(tokens):
        return "", at
    power = _POWERS.get(tokens[at].lower())
    if power and (name := unit_name(" ".join(tokens[at + 1 : at + 2]))):
        return f"{name}^{power}", at + 2
    name = unit_name(tokens[at])
    if not name and _MADE_UP.fullmatch(tokens[at]):
        return tokens[at], at + 1
    if not name or (len(tokens[at]) == 1 and at + 1 < len(tokens)):
        return "", at
    other = unit_name(tokens[at + 2]) if tokens[at + 1 : at + 2] == ["per"] and at + 2 < len(tokens) else ""
    return (unit_name(f"{name}/{other}") or f"{name}/{other}", at + 3) if other else (name, at + 1)
