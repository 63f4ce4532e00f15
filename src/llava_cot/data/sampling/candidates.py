"""What has been found out about the records that may be drawn, kept in a file while a sample is made.

Owns the SQLite file: records with what speaks against them, pictures with their fingerprints. Knows no
source. A sample that was broken off goes on from here, so that no picture is looked at twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llava_cot.data.overlap import Fingerprint
from llava_cot.data.sampling.draw import Place
from llava_cot.errors import DataError

_TABLES = """
create table if not exists about (id integer primary key check (id = 0), recipe text not null);
create table if not exists records (
    label text, place blob, against text, same blob, line text, primary key (label, place)) without rowid;
create table if not exists pictures (
    label text, name text, sha256 text, phash text, primary key (label, name)) without rowid;
"""


@dataclass(frozen=True)
class DrawCandidate:
    """A record in line. `against` is why it must not be drawn, if anything; `same` equals in duplicates."""

    place: Place
    against: str
    same: bytes
    line: str


class CandidateFile:
    """The file, open for one process alone. Raises DataError if another one has it, or it cannot be used."""

    def __init__(self, file: Path, recipe: str) -> None:
        """`recipe` is what all that is kept depends on; a file of another one is refused."""
        self._file = file
        with self._told():
            self._db = sqlite3.connect(file, timeout=0)
            self._db.execute("pragma locking_mode = exclusive")
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = normal")
            self._db.executescript(_TABLES)
            with self._db:
                self._db.execute("insert or ignore into about values (0, ?)", (recipe,))
            (found,) = self._db.execute("select recipe from about").fetchone()
        if found != recipe:
            self.close()
            raise DataError(
                f"{file.parent} holds an unfinished sample of another recipe; name a new folder, or remove it"
            )

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if "locked" in str(error):
                raise DataError(f"another process is at work in {self._file.parent}; let it end") from None
            raise DataError(
                f"{self._file} cannot be used ({error}); if it is damaged, remove {self._file.parent}"
            ) from None

    def known(self, label: str) -> set[Place]:
        """The places of the records that have been looked at."""
        with self._told():
            return {row[0] for row in self._db.execute("select place from records where label = ?", (label,))}

    def add(self, label: str, records: Iterable[DrawCandidate]) -> None:
        """Keep records of a source, all of these or none."""
        with self._told(), self._db:
            self._db.executemany(
                "insert or replace into records values (?, ?, ?, ?, ?)",
                [(label, it.place, it.against, it.same, it.line) for it in records],
            )

    def add_pictures(self, label: str, pictures: Iterable[tuple[str, Fingerprint]]) -> None:
        """Keep fingerprints of a source's pictures by name, all of these or none."""
        with self._told(), self._db:
            self._db.executemany(
                "insert or replace into pictures values (?, ?, ?, ?)",
                [(label, name, found.sha256, f"{found.phash:x}") for name, found in pictures],
            )

    def picture(self, label: str, name: str) -> Fingerprint | None:
        """The fingerprint of a picture that has been looked at."""
        query = "select sha256, phash from pictures where label = ? and name = ?"
        with self._told():
            row = self._db.execute(query, (label, name)).fetchone()
        return None if row is None else Fingerprint(row[0], int(row[1], 16))

    def in_line(self, label: str) -> Iterator[DrawCandidate]:
        """The source's records by their places."""
        query = "select place, against, same, line from records where label = ? order by place"
        with self._told():
            for row in self._db.execute(query, (label,)):
                yield DrawCandidate(*row)

    def line(self, label: str, place: Place) -> str:
        """The line of JSON of a record that is there."""
        with self._told():
            query = "select line from records where label = ? and place = ?"
            return str(self._db.execute(query, (label, place)).fetchone()[0])
