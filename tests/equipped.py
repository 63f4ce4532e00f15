"""Until all tests use `extra_methods`: the same for a test with a monkeypatch."""

import pytest
from extra_methods import JUDGE, KNOWN, Lengths, Openings

from llava_cot.search.judges import JUDGES
from llava_cot.search.methods import METHODS

__all__ = ["Lengths", "Openings", "register"]


def register(monkeypatch: pytest.MonkeyPatch) -> Openings:
    for method in KNOWN:
        monkeypatch.setitem(METHODS._entries, method.name, method)
    monkeypatch.setitem(JUDGES._entries, JUDGE.name, JUDGE)
    return Openings(monkeypatch)
