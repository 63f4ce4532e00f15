"""Named things that other packages can add to: methods, judges, models, sources, benchmarks."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from llava_cot.core.wording import one_line

T = TypeVar("T")


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
        self._imported = False
        self._decorated = decorated
        self._entries: dict[str, T] = {}
        self._homes: dict[str, str] = {}
        self._entry_points: dict[str, EntryPoint] | None = None

    def add(self, name: str, entry: T, module: str = "") -> None:
        """Register an entry, defined in `module`. A cell of a notebook, or a script, may define it again.

        Raises:
            ValueError: The name is taken by another entry.
        """
        redefined = module == self._homes.get(name) == "__main__"
        if name in self._entries and self._entries[name] is not entry and not redefined:
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
        self._imported = True  # first, since a module may look up an entry as it is imported
        for module in self._modules:
            import_module(module)
        order = {module: number for number, module in enumerate(self._modules)}
        names = sorted(self._entries, key=lambda name: order.get(self._homes.get(name, ""), len(order)))
        self._entries = {name: self._entries[name] for name in names}

    def _external(self) -> dict[str, EntryPoint]:
        if self._entry_points is None:
            self._entry_points = {point.name: point for point in entry_points(group=self.group)}
        return self._entry_points

    def _load(self, name: str) -> None:
        """Import the entry point. It may register itself by a decorator, or be the entry."""
        point = self._external()[name]
        try:
            loaded = point.load()
        except Exception as error:  # any fault of the other package, named so that the user can remove it
            raise ValueError(
                f"the {self.noun} {name!r} of the package {point.dist.name if point.dist else point.value} "
                f"cannot be loaded: {type(error).__name__}: {one_line(str(error))}"
            ) from error
        if not self._decorated:
            self._entries.setdefault(name, loaded)
        if name not in self._entries:
            raise ValueError(
                f"the entry point {point.value} in {self.group} registers no {self.noun} {name!r}; give both "
                "the same name"
            )

    def unknown(self, name: str) -> ValueError:
        """The error for a name that is not registered."""
        return ValueError(f"there is no {self.noun} {name!r}; choose one of {', '.join(self)}")
