"""A sample: a recipe's number of records from each source, none twice and none of a benchmark's.

Owns who is drawn, the folder and its report. A first pass over each source finds who is first in line
(`draw.py`), a second one looks at those and puts their pictures there (`finding.py`); then the line is gone
through in order, and whoever must not be drawn leaves the place to the next. Knows no source's layout.

The folder has `questions.jsonl` (records as `to_json` writes them, in the order of their places, so that any
beginning of it is a fair sample too), `images/`, and `sample.json`, which says what was done.
`questions.jsonl` comes last: it is there only when all is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from llava_cot.core.files import write_whole
from llava_cot.core.yaml_file import read_recipe
from llava_cot.data.overlap import threads
from llava_cot.data.sampling.candidates import CandidateFile, DrawCandidate
from llava_cot.data.sampling.draw import Place, first, place
from llava_cot.data.sampling.finding import FOLDER, Finder, SamplingProgress
from llava_cot.data.sources.entry import DataRecipe, OpenedSource, open_source
from llava_cot.errors import DataError

QUESTIONS, REPORT, WORK = "questions.jsonl", "sample.json", ".sample.sqlite"
# How many more than asked for are looked at, to begin with: duplicates are few in public sets.
_SPARE_SHARE, _SPARE = 0.05, 20


@dataclass
class SourceOutcome:
    """What became of one source: how many records it has, and how many in line were not drawn, by reason."""

    name: str
    title: str
    home: str
    license: str
    asked: int | str
    read: int = 0
    drawn: int = 0
    duplicates: int = 0
    overlaps_by_picture: int = 0
    overlaps_by_text: int = 0
    unreadable: int = 0

    def to_json(self) -> dict[str, Any]:
        """As it is in `sample.json`."""
        return {"licence" if name == "license" else name: value for name, value in asdict(self).items()}

    def too_few(self, there: int) -> DataError:
        """That there are only so many to draw from."""
        reasons = (
            (self.duplicates, "twice there"),
            (self.overlaps_by_picture + self.overlaps_by_text, "in a benchmark"),
            (self.unreadable, "with a picture that cannot be read"),
        )
        why = "".join(f", {number:,} {reason}" for number, reason in reasons if number)
        return DataError(
            f"{self.name} has {there:,} records to draw ({self.read:,} in all{why}), and the recipe asks for "
            f"{self.asked:,}; ask for fewer, or for `count: all`"
        )


@dataclass(frozen=True)
class _Line:
    """A source and those who are first in its line. `wanted` and `size` are None for all of them."""

    source: OpenedSource
    wanted: int | None
    size: int | None
    chosen: frozenset[Place]
    outcome: SourceOutcome


def sample(recipe_file: str | Path, out: str | Path, on_progress: SamplingProgress) -> dict[str, Any]:
    """Draw a recipe's sample into a folder; what its `sample.json` says.

    A sample that is there and whole is left as it is, one that was broken off is gone on with. Raises
    DataError for a wrong recipe, a source that lacks something, a folder that holds something else.
    """
    told = read_recipe(recipe_file, DataRecipe)
    recipe = told.located(Path(recipe_file).resolve().parent)
    written, folder = told.model_dump(mode="json", exclude_unset=True), Path(out)
    if _whole(folder, written):
        return dict(json.loads((folder / REPORT).read_text(encoding="utf-8")))
    benchmarks = [open_source(entry) for entry in recipe.exclude]
    opened = [(open_source(entry), entry.count) for entry in recipe.sources]
    lines = [_first_in_line(source, asked, recipe.seed, on_progress) for source, asked in opened]
    folder.mkdir(parents=True, exist_ok=True)
    with closing(CandidateFile(folder / WORK, _basis(recipe))) as kept:
        (folder / QUESTIONS).unlink(missing_ok=True)
        pool = threads()
        try:
            finder = Finder(folder, kept, pool, on_progress, perceptual=bool(benchmarks))
            excluded = [
                {"name": it.name, "title": it.title, "questions": finder.exclude(it.name, it.records())}
                for it in benchmarks
            ]
            drawn = _draw(lines, recipe.seed, finder, kept, on_progress)
        finally:
            pool.shutdown(cancel_futures=True)
        report = {
            "recipe": written,
            "drawn": len(drawn),
            "sources": [line.outcome.to_json() for line in lines],
            "exclude": excluded,
        }
        _write(folder, report, drawn, kept)
    for file in folder.glob(WORK + "*"):
        file.unlink()
    return report


def _whole(folder: Path, written: dict[str, Any]) -> bool:
    """Whether the sample is there already. Raises DataError if the folder holds something else."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; name a folder for the sample")
    if (folder / WORK).exists():
        return False
    if (folder / QUESTIONS).is_file() and (folder / REPORT).is_file():
        try:
            found = json.loads((folder / REPORT).read_text(encoding="utf-8"))["recipe"]
        except (ValueError, KeyError, TypeError):
            found = None
        if found == written:
            return True
        raise DataError(f"{folder} holds the sample of another recipe; name a new folder, or remove it")
    other = next(folder.iterdir(), None)
    if other is not None:
        raise DataError(
            f"{folder} holds other files ({other.name}); name a new or empty folder for the sample"
        )
    return False


def _basis(recipe: DataRecipe) -> str:
    """What all that is found out depends on: everything but how many are drawn."""
    basis = recipe.model_dump(mode="json", exclude={"sources": {"__all__": {"count"}}})
    return json.dumps(basis, sort_keys=True)


def _first_in_line(
    source: OpenedSource, asked: int | str | None, seed: int, on_progress: SamplingProgress
) -> _Line:
    """Those who are looked at to begin with. Raises DataError if there are fewer than asked for."""
    wanted = asked if isinstance(asked, int) else None
    size = None if wanted is None else wanted + int(wanted * _SPARE_SHARE) + _SPARE
    outcome = SourceOutcome(source.name, source.title, source.home, source.license, asked or 0)
    line = _longer(_Line(source, wanted, size, frozenset(), outcome), seed, on_progress)
    if outcome.read < (wanted or 0):
        raise outcome.too_few(outcome.read)
    return line


def _longer(line: _Line, seed: int, on_progress: SamplingProgress) -> _Line:
    """The line with `size` chosen."""
    name = line.source.name
    places = (place(seed, name, record) for record in line.source.records())
    chosen, line.outcome.read = first(line.size, places, lambda done: on_progress(f"{name}: reading", done))
    return replace(line, chosen=chosen)


def _draw(
    lines: Iterable[_Line], seed: int, finder: Finder, kept: CandidateFile, on_progress: SamplingProgress
) -> list[tuple[Place, str]]:
    """Who is drawn, with the name of the source, in the order of places."""
    drawn: list[tuple[Place, str]] = []
    seen: set[bytes] = set()
    for line in lines:
        name = line.source.name
        while True:
            finder.find_out(name, line.source.records(), line.chosen, seed)
            candidates = (it for it in kept.in_line(name) if it.place in line.chosen)
            mine = _go_through(candidates, line.wanted, seen, line.outcome)
            if len(mine) == line.wanted:
                break
            if line.size is None or line.size >= line.outcome.read:  # all of them are in the line
                line.outcome.duplicates += line.outcome.read - len(line.chosen)  # the same row again
                if line.wanted is None:
                    break
                raise line.outcome.too_few(len(mine))
            line = _longer(replace(line, size=line.size * 2), seed, on_progress)
        seen |= {it.same for it in mine}
        drawn += [(it.place, name) for it in mine]
    return sorted(drawn)


def _go_through(
    candidates: Iterable[DrawCandidate], wanted: int | None, seen: set[bytes], outcome: SourceOutcome
) -> list[DrawCandidate]:
    """Those of a line who are drawn; `outcome` is told of the others. `seen` are drawn already."""
    drawn: list[DrawCandidate] = []
    mine: set[bytes] = set()
    against = {"": 0, "picture": 0, "text": 0, "unreadable": 0}
    for it in candidates:
        if len(drawn) == wanted:
            break
        if it.against:
            against[it.against] += 1
        elif it.same in seen or it.same in mine:
            against[""] += 1
        else:
            mine.add(it.same)
            drawn.append(replace(it, line=""))  # the text stays in the file
    outcome.drawn, outcome.duplicates, outcome.unreadable = len(drawn), against[""], against["unreadable"]
    outcome.overlaps_by_picture, outcome.overlaps_by_text = against["picture"], against["text"]
    return drawn


def _write(
    folder: Path, report: dict[str, Any], drawn: Iterable[tuple[Place, str]], kept: CandidateFile
) -> None:
    """Write the questions and the report, and remove the pictures of those who were not drawn."""
    ids: set[str] = set()
    pictures: set[str] = set()
    digest = hashlib.sha256()
    part = folder / (QUESTIONS + ".part")
    with part.open("wb") as lines:
        for at, name in drawn:
            line = json.loads(kept.line(name, at))
            line["id"] = _free(line["id"], ids)
            ids.add(line["id"])
            shown = [line["image"]] if "image" in line else line.get("images", [])
            gone = next((it for it in shown if not (folder / it).is_file()), None)
            if gone is not None:
                raise DataError(
                    f"the picture {gone} is gone from {folder}; remove the folder, and draw again"
                )
            pictures.update(shown)
            data = json.dumps(line).encode() + b"\n"
            digest.update(data)
            lines.write(data)
    _remove_others(folder / FOLDER, {folder / name for name in pictures})
    report |= {"pictures": len(pictures), "questions_sha256": digest.hexdigest()}
    write_whole(folder / REPORT, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    part.replace(folder / QUESTIONS)


def _free(id: str, taken: set[str]) -> str:
    """The id, or where it is taken (by another source, or one that repeats ids) with a number behind it."""
    if id not in taken:
        return id
    return next(f"{id}-{number}" for number in count(2) if f"{id}-{number}" not in taken)


def _remove_others(folder: Path, kept: set[Path]) -> None:
    """Remove the files under a folder that are not kept, and folders that this leaves empty."""
    for path, inner, files in os.walk(folder, topdown=False):
        for file in (Path(path, name) for name in files):
            if file not in kept:
                file.unlink()
        for empty in (Path(path, name) for name in inner):
            if next(empty.iterdir(), None) is None:
                empty.rmdir()
