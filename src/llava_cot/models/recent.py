"""The values that were used last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class Recent(Generic[_K, _V]):
    """The values used last, as many as weigh no more than `limit` in all."""

    def __init__(self, limit: int, weigh: Callable[[_V], int] = lambda value: 1) -> None:
        self._limit, self._weigh, self._weight = limit, weigh, 0
        self._values: OrderedDict[_K, _V] = OrderedDict()

    def get(self, key: _K) -> _V | None:
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: _K, value: _V) -> None:
        self.pop(key)
        self._values[key] = value
        self._weight += self._weigh(value)
        while self._weight > self._limit and len(self._values) > 1:
            self.pop(next(iter(self._values)))

    def pop(self, key: _K) -> _V | None:
        value = self._values.pop(key, None)
        self._weight -= 0 if value is None else self._weigh(value)
        return value
