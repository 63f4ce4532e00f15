"""Nothing that is answered has changed since `record.py` was run: see `cases.py` for what is compared.

Six cases were recorded again on purpose, since votes and options are now read by what they mean ("3" and the
letter of the option "3" are one vote): `weighted-best-of-n@logits 1 noisy`, `@rules 1 clean` and `1 noisy`,
`adaptive-stage-beam other format`, `swires@rules 1 noisy` and `swires-script@rules 1 noisy`. So was the usage
of `best-of-n reward`, `sentence-beam reward` and `stage-beam reward`: a tournament scores each text once.
`data` and `eval mini` have the depth of questions about scenes (a digest, and a table by depth), and both
`eval` cases a table of how judges order right and wrong answers, and what an even choice comes to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from golden.cases import FOLDER, TOLERANCE, Case, groups, wordless

# What traces, questions of scenes and lists of names have had since.
_METHODS = ("confidence-majority", "annealed-beam", "particle-filter")
ADDED = (
    "prm",
    "critic",
    "staging",
    "depth",
    "scripted:direct",
    *(f"scripted:{method}-{n}" for method in _METHODS for n in (2, 4, 8)),
)
# What has been changed on purpose since: `param` names the field at fault where it was null.
CHANGED: dict[tuple[str, str], dict[str, Any]] = {
    ("server", "no method"): {"param": "search.method"},
    ("server", "no judge"): {"param": "search.judge"},
    ("server", "budget of single"): {"param": "search.budget"},
    ("server", "wants"): {"param": "model"},
}
EXPECTED = {group: json.loads((FOLDER / f"{group}.json").read_text()) for group in TOLERANCE}


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, dict[str, Case]]]:
    with groups() as cases:
        yield cases


def difference(expected: Any, found: Any, tolerance: float, where: str = "") -> str | None:
    """The first place at which the two differ, and how; None where they are the same."""
    if isinstance(expected, dict) and isinstance(found, dict):
        keys = list(expected.keys() | found.keys())
        pairs = [(key, expected.get(key, "absent"), found.get(key, "absent")) for key in sorted(keys)]
    elif isinstance(expected, list) and isinstance(found, list):
        pairs = [(i, one, other) for i, (one, other) in enumerate(zip(expected, found, strict=False))]
        pairs.append(("length", len(expected), len(found)))
    else:
        numbers = isinstance(expected, float) and isinstance(found, float)
        close = numbers and math.isclose(expected, found, rel_tol=tolerance, abs_tol=tolerance / 10)
        same = close or (type(expected) is type(found) and expected == found)
        return None if same else f"{where or '.'}: {expected!r} was expected, and {found!r} found"
    told = (difference(one, other, tolerance, f"{where}.{key}") for key, one, other in pairs)
    return next((one for one in told if one is not None), None)


def without(value: Any) -> Any:
    """The value without what was added."""
    if isinstance(value, list):
        return [without(one) for one in value if one not in ADDED]
    if not isinstance(value, dict):
        return value
    return {name: without(one) for name, one in value.items() if name not in ADDED}


@pytest.mark.parametrize("group", EXPECTED)
def test_every_case_is_known(found: dict[str, dict[str, Case]], group: str) -> None:
    assert [name for name in found[group] if name in EXPECTED[group]] == list(EXPECTED[group])


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, cases in EXPECTED.items() for name in cases]
)
def test_nothing_has_changed(found: dict[str, dict[str, Case]], group: str, name: str) -> None:
    came = wordless(json.loads(json.dumps(found[group][name]())), [])
    expected = EXPECTED[group][name]
    if (group, name) in CHANGED:
        expected = expected | CHANGED[group, name]
    told = difference(without(expected), without(came), TOLERANCE[group])
    assert told is None, f"{group}: {name}: {told}"
