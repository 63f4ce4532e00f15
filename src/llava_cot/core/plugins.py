"""Named things that other packages can add to: methods, judges, models, sources, benchmarks."""

from __future__ import annotations

import re
import threading
from collections.abc import ItemsView, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from llava_cot.core.wording import meant, one_line

T = TypeVar("T")
_NAME = re.compile("[a-z][a-z0-9_-]*")


class Registry(Mapping[str, T], Generic[T]):
    """A mapping from names to the package's own entries and those of installed entry points.

    The package's own modules are imported at the first access, in the order given. Names of entry points are
    listed without importing their packages, which are loaded when an entry is looked up. An entry of the
    package itself cannot be replaced.

    Args:
        group: The entry-point group, such as "llava_cot.methods".
        noun: What an entry is called in messages, such as "method".
        modules: The modules of the package that register its own entries when they are imported.
        decorated: Entries register themselves by a decorator; otherwise the entry point is the entry.
    """

    def __init__(
        self, group: str, noun: str, modules: Sequence[str] = (), *, decorated: bool = False
    ) -> None:
        self.group = group
        self.noun = noun
        self._modules = tuple(modules)
        self._imported = not modules
        self._begun = False
        self._importing = threading.RLock()
        self._decorated = decorated
        self._entries: dict[str, T] = {}
        self._homes: dict[str, str] = {}
        self._entry_points: dict[str, EntryPoint] | None = None
        self._faults: dict[str, str] = {}  # of entry points that cannot be loaded

    def add(self, name: str, entry: T, module: str = "") -> None:
        """Register an entry, defined in `module`, which may define it again when it is reloaded.

        Raises:
            ValueError: The name is taken by another entry, or is not a name.
        """
        if module not in self._modules:
            self._import_own()  # before another package can take one of their names
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} cannot name a {self.noun}; use lower-case letters, digits, - and _, a letter first"
            )
        again = module and module == self._homes.get(name)
        if name in self._entries and self._entries[name] is not entry and not again:
            raise ValueError(f"there is already a {self.noun} {name!r}; choose another name")
        self._entries[name] = entry
        self._homes[name] = module

    def remove(self, name: str) -> None:
        """Unregister an entry that was added. Raises KeyError if there is none."""
        del self._entries[name]

    def __getitem__(self, name: str) -> T:
        self._import_own()
        if name not in self._entries and name in self._external():
            self._load(name)
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._import_own()
        yield from dict.fromkeys([*self._entries, *self._external()])

    def items(self) -> ItemsView[str, T]:
        """All entries, without those of other packages that cannot be loaded."""
        found: dict[str, T] = {}
        for name in self:
            with suppress(ValueError):
                found[name] = self[name]
        return found.items()

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        self._import_own()
        return name in self._entries or name in self._external()

    def _import_own(self) -> None:
        if self._imported:
            return
        with (
            self._importing
        ):  # other threads wait; a module that looks up an entry as it is imported does not
            if self._imported or self._begun:
                return
            self._begun = True
            for module in self._modules:
                import_module(module)
            order = {module: number for number, module in enumerate(self._modules)}
            names = sorted(self._entries, key=lambda name: order.get(self._homes.get(name, ""), len(order)))
            self._entries = {name: self._entries[name] for name in names}
            self._imported = True

    def _external(self) -> dict[str, EntryPoint]:
        if self._entry_points is None:
            self._entry_points = {point.name: point for point in entry_points(group=self.group)}
        return self._entry_points

    def _load(self, name: str) -> None:
        """Import the entry point. It may register itself by a decorator, or be the entry."""
        if name not in self._faults:
            point = self._external()[name]
            try:
                loaded = point.load()
                if not self._decorated and name not in self._entries:
                    self.add(name, loaded)
            except (Exception, SystemExit) as error:  # named, so that the user can remove the package
                package = point.dist.name if point.dist else point.value
                reason = f"{type(error).__name__}: {one_line(str(error))}"
                self._faults[name] = (
                    f"the {self.noun} {name!r} of the package {package} cannot be loaded: {reason}"
                )
            else:
                if name in self._entries:
                    return
                self._faults[name] = (
                    f"the entry point {point.value} in {self.group} registers no {self.noun} {name!r}; give "
                    "both the same name"
                )
        raise ValueError(self._faults[name])

    def unknown(self, name: str) -> ValueError:
        """The error for a name that is not registered, with the one that it resembles."""
        similar = meant(name, self)
        listed = f"{similar}There are" if similar else "choose one of"
        return ValueError(f"there is no {self.noun} {name!r}; {listed} {', '.join(self)}")
