"""A folder's store: results of long work, saved as they arrive, so that the work can be resumed.

`store.db` is an SQLite file with a write-ahead log. What `put` has returned from survives the end of the
process; a power cut may lose the last values and leaves the rest whole (`synchronous=NORMAL`).
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import TypeAdapter, ValidationError

from llava_cot.core.files import check_new_folder
from llava_cot.core.wording import first_fault, shortened
from llava_cot.data.record import Record, digest
from llava_cot.errors import DataError, StoreError

STORE_FILE = "store.db"
STORE_FILES = (STORE_FILE, f"{STORE_FILE}-wal", f"{STORE_FILE}-shm")
_TABLES = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, UNIQUE (kind, key)
);
COMMIT;
"""
_NAMES = ("settings", "entries")
_PUT = (
    "INSERT INTO entries (kind, key, value) VALUES (?, ?, ?) "
    "ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value"
)
_PROGRAM = re.compile(r"\b(generated|as|check|default|collate|virtual)\b", re.IGNORECASE)  # in a table
_PAGES = 8000  # of the log, 32 MB, before it is moved to the file, which waits for the disk
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT")


def check_store_folder(folder: Path) -> None:
    """Check, without a change, that a store can be created or resumed in a folder. Raises DataError."""
    if not (folder / STORE_FILE).is_file():
        check_new_folder(folder)


class Store:
    """The store of a folder, created if needed: JSON values under a kind and a key. For one thread at a time.

    The lock is SQLite's own exclusive lock, held until `close`; the system releases it if the process dies.
    Every method raises StoreError if another process holds the store, or it is damaged or cannot be written.

    `shapes` has the types of values, by kind: one of another type is damage.
    """

    shapes: ClassVar[Mapping[str, TypeAdapter[Any]]] = {}

    def __init__(self, folder: Path) -> None:
        self._file = folder / STORE_FILE
        folder.mkdir(parents=True, exist_ok=True)
        with self._errors():
            self._db = sqlite3.connect(self._file, isolation_level=None, timeout=0)
            try:
                self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                self._db.execute(f"PRAGMA wal_autocheckpoint={_PAGES}")
                self._check_schema()
                self._db.executescript(_TABLES)
            except BaseException:
                self._db.close()
                raise

    def _check_schema(self) -> None:
        """Refuse a file that has more than the two tables: a view or a trigger is a program."""
        self._db.execute("PRAGMA trusted_schema=OFF")
        for kind, name, sql in self._db.execute("SELECT type, name, sql FROM sqlite_master"):
            own_index = kind == "index" and sql is None  # of a unique key
            table = kind == "table" and (name in _NAMES or name.startswith("sqlite_"))
            if not own_index and not (table and not _PROGRAM.search(sql)):
                raise StoreError(self._damaged(f"it has a {kind} {name!r} that this package does not make"))

    def match_settings(self, settings: Mapping[str, str]) -> None:
        """Save the settings of new work, or check that work to be resumed has the same. Raises StoreError."""
        with self._errors():
            known = self.settings()
            if not known:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany("INSERT INTO settings VALUES (?, ?)", settings.items())
                self._db.execute("COMMIT")
                return
        for name in [*settings, *known]:
            before, now = known.get(name, "not set"), settings.get(name, "not set")
            if before != now:
                raise StoreError(
                    f"{self._file.parent} was begun with {name} {before!r}, and not {now!r}; "
                    "use the same, or name another folder"
                )

    def put(self, key: str, kind: str, value: Any) -> None:
        """Save a value, in place of one with the same key and kind. It is safe when this returns."""
        with self._errors():
            self._db.execute(_PUT, (kind, key, json.dumps(value)))

    def put_all(self, kind: str, values: Iterable[tuple[str, Any]]) -> None:
        """Save values of a kind under their keys: all of them, or none."""
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(_PUT, ((kind, key, json.dumps(value)) for key, value in values))
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def get(self, key: str, kind: str) -> Any:
        """The value, or None if there is none."""
        with self._errors():
            row = self._db.execute(
                "SELECT value FROM entries WHERE kind = ? AND key = ?", (kind, key)
            ).fetchone()
            return None if row is None else self._value(kind, row[0])

    def items(self, kind: str, *, by_key: bool = False) -> Iterator[tuple[str, Any]]:
        """Keys and values of a kind, in the order in which they were first put, or by key.

        They are read one at a time. Whether a value that is put meanwhile is among them is undefined.
        """
        order = "key" if by_key else "number"
        with self._errors():
            rows = self._db.execute(
                f"SELECT key, value FROM entries WHERE kind = ? ORDER BY {order}", (kind,)
            )
        while True:
            with self._errors():
                row = rows.fetchone()
                if row is None:
                    return
                item = row[0], self._value(kind, row[1])
            yield item

    def _value(self, kind: str, text: Any) -> Any:
        value, shape = json.loads(text), self.shapes.get(kind)
        if shape is not None:
            shape.validate_python(value)
        return value

    @contextmanager
    def reading(self) -> Iterator[None]:
        """For the use of stored values inside: any error that one causes which the package did not write."""
        try:
            yield
        except (DataError, StoreError):
            raise
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            why = first_fault(error) if isinstance(error, ValidationError) else str(error)
            what = f"a value is not as expected: {type(error).__name__}: {why}"
            raise StoreError(self._damaged(what)) from error

    def settings(self) -> dict[str, str]:
        """The settings that the work was begun with; empty if it was not."""
        with self._errors():
            return dict(self._db.execute("SELECT name, value FROM settings"))

    def keys(self, kind: str) -> list[str]:
        """The keys of a kind, in the order in which they were first put."""
        with self._errors():
            rows = self._db.execute("SELECT key FROM entries WHERE kind = ? ORDER BY number", (kind,))
            return [key for (key,) in rows]

    def counts(self) -> dict[str, int]:
        """The number of values of each kind."""
        with self._errors():
            return dict(self._db.execute("SELECT kind, count(*) FROM entries GROUP BY kind"))

    def total(self, kind: str, name: str) -> float:
        """The sum of a number, by its name, over the values (objects) of a kind; null counts as 0."""
        with self._errors():
            row = self._db.execute(
                "SELECT total(json_extract(value, '$.' || ?)) FROM entries WHERE kind = ?", (name, kind)
            ).fetchone()
            return float(row[0])

    def first_occurrences(self) -> Callable[[str], bool]:
        """A function that tells whether a name is given to it for the first time.

        The names are on disk until the store is closed, or this is called again: memory does not grow.
        """
        with self._errors():
            self._db.execute("DROP TABLE IF EXISTS temp.named")
            self._db.execute("CREATE TEMP TABLE named (digest BLOB PRIMARY KEY) WITHOUT ROWID")

        def first(name: str) -> bool:
            with self._errors():
                added = self._db.execute("INSERT OR IGNORE INTO temp.named VALUES (?)", (digest(name),))
                return added.rowcount == 1

        return first

    def close(self) -> None:
        """Release the store."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(self._sentence(error)) from error
        except StoreError:
            raise
        except ValidationError as error:
            raise StoreError(self._damaged(f"a value is not as expected: {first_fault(error)}")) from error
        except (TypeError, ValueError, RecursionError) as error:
            raise StoreError(self._damaged(f"a value is no JSON: {error}")) from error

    def _sentence(self, error: sqlite3.Error) -> str:
        name = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith("SQLITE_BUSY"):
            return f"another process works on {self._file.parent}; wait for its end, or name another folder"
        if name == "SQLITE_FULL":
            return (
                f"the disk is full, or {self._file} may not grow; what was saved before is safe: "
                "make room and start again"
            )
        if name.startswith(_DAMAGED) or not name:  # no name: a text that is not UTF-8
            return self._damaged(str(error))
        if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
            return f"{self._file} cannot be opened for writing ({error}); check its permissions"
        return f"{self._file} cannot be read or written ({error}); check the disk, and start again"

    def _damaged(self, why: str) -> str:
        return (
            f"{self._file} is damaged ({shortened(why, 200)}); replace it by a copy, save what is left with "
            f"`sqlite3 {STORE_FILE} .recover`, or name another folder"
        )


def unique_records(records: Iterable[Record], store: Store) -> Iterator[tuple[Record, bool]]:
    """The records, each with whether it is the first with its id; the others are skipped."""
    first = store.first_occurrences()
    for record in records:
        yield record, first(record.id)
