"""A sample: a recipe's number of records from each source, no duplicates and none of a benchmark."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from llava_cot.core.files import check_new_folder, read_recipe, write_whole
from llava_cot.data.overlap import reading_threads
from llava_cot.data.sampling.finding import (
    FOLDER,
    DrawCandidate,
    Finder,
    Place,
    SamplingProgress,
    examined,
    examined_line,
    first,
    place,
)
from llava_cot.data.sources.entry import DataRecipe, OpenedSource, open_source
from llava_cot.data.store import STORE_FILE, Store
from llava_cot.errors import DataError

QUESTIONS, REPORT = "questions.jsonl", "sample.json"
# How many more candidates than the count are examined at first: duplicates are few in public sets.
_SPARE_SHARE, _SPARE = 0.05, 20


@dataclass
class SourceOutcome:
    """What was drawn from one source: the number of its records, and of rejected candidates by reason."""

    name: str
    title: str
    home: str
    license: str
    count: int | str
    read: int = 0
    drawn: int = 0
    duplicates: int = 0
    overlaps_by_picture: int = 0
    overlaps_by_text: int = 0
    unreadable: int = 0

    def to_json(self) -> dict[str, Any]:
        """As it is in `sample.json`."""
        keys = {"license": "licence", "count": "asked"}
        return {keys.get(name, name): value for name, value in asdict(self).items()}

    def too_few(self, there: int) -> DataError:
        """The error that there are only so many to draw from."""
        reasons = (
            (self.duplicates, "duplicates"),
            (self.overlaps_by_picture + self.overlaps_by_text, "in a benchmark"),
            (self.unreadable, "with a picture that cannot be read"),
        )
        why = "".join(f", {number:,} {reason}" for number, reason in reasons if number)
        return DataError(
            f"{self.name} has {there:,} records to draw ({self.read:,} in all{why}), and the recipe's "
            f"`count` is {self.count:,}; lower it, or write `count: all`"
        )


@dataclass(frozen=True)
class _Queue:
    """The first candidates of a source. `count` and `size` are None for all of them."""

    source: OpenedSource
    count: int | None
    size: int | None
    chosen: frozenset[Place]
    outcome: SourceOutcome


def sample(recipe_file: str | Path, out: str | Path, on_progress: SamplingProgress) -> dict[str, Any]:
    """Draw a recipe's sample into a folder. A complete sample is left as it is, an unfinished one is resumed.

    A first pass over each source finds its first candidates, a second one examines those and puts their
    pictures into the folder. Then the candidates are drawn in order; rejected ones are replaced by the next.
    The folder has

        questions.jsonl  the records (`record.to_json`) in the order of their places, so that any beginning of
                         it is a fair sample too; written last, so it is there only when everything is
        images/          their pictures
        sample.json      the recipe, what was drawn from each source, and what was left out for which reason
        store.db         what is known so far, while the sample is unfinished

    Returns:
        The content of `sample.json`.

    Raises:
        DataError: The recipe is wrong, a source is incomplete, or the folder holds something else.
        StoreError: Another process works on the folder.
    """
    read = read_recipe(recipe_file, DataRecipe)
    recipe = read.located(Path(recipe_file).resolve().parent)
    written, folder = read.model_dump(mode="json", exclude_unset=True), Path(out)
    if _is_complete(folder, written):
        return dict(json.loads((folder / REPORT).read_text(encoding="utf-8")))
    benchmarks = [open_source(entry) for entry in recipe.exclude]
    opened = [(open_source(entry), entry.count) for entry in recipe.sources]
    queues = [_first_candidates(source, count, recipe.seed, on_progress) for source, count in opened]
    with Store(folder) as store:
        homes = [source.home for source in (*benchmarks, *(source for source, _ in opened))]
        _match_recipe(store, folder, recipe, homes)
        (folder / QUESTIONS).unlink(missing_ok=True)
        pool = reading_threads()
        try:
            finder = Finder(folder, store, pool, on_progress, perceptual=bool(benchmarks))
            excluded = [
                {"name": it.name, "title": it.title, "questions": finder.exclude(it.name, it.records())}
                for it in benchmarks
            ]
            drawn = _draw(queues, recipe.seed, finder, on_progress)
        finally:
            pool.shutdown(cancel_futures=True)
        report = {
            "recipe": written,
            "drawn": len(drawn),
            "sources": [queue.outcome.to_json() for queue in queues],
            "exclude": excluded,
        }
        _write(folder, report, drawn, store)
    for file in folder.glob(STORE_FILE + "*"):
        file.unlink()
    return report


def _is_complete(folder: Path, written: dict[str, Any]) -> bool:
    """Whether the sample is there already. Raises DataError if the folder holds something else."""
    if (folder / STORE_FILE).exists():
        return False
    if (folder / QUESTIONS).is_file() and (folder / REPORT).is_file():
        try:
            found = json.loads((folder / REPORT).read_text(encoding="utf-8"))["recipe"]
        except (ValueError, KeyError, TypeError):
            found = None
        if found == written:
            return True
        raise DataError(f"{folder} holds the sample of another recipe; name a new folder, or remove it")
    check_new_folder(folder)
    return False


def _match_recipe(store: Store, folder: Path, recipe: DataRecipe, homes: list[str]) -> None:
    """Check that an unfinished sample is of this recipe: of all of it but the counts. Raises DataError.

    `homes` are the pages of its sources: that of a data set on the Hub names its commit.
    """
    basis = recipe.model_dump(mode="json", exclude={"sources": {"__all__": {"count"}}})
    basis["homes"] = homes
    digest = hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()
    settings = {"purpose": "sampling", "recipe": digest}
    known = store.settings()
    if known.get("purpose") == "sampling" and known != settings:
        raise DataError(
            f"{folder} holds an unfinished sample of another recipe, or of data sets that changed on the "
            "Hub; name a new folder, or remove it"
        )
    store.match_settings(settings)


def _first_candidates(
    source: OpenedSource, count: int | str | None, seed: int, on_progress: SamplingProgress
) -> _Queue:
    """Raises DataError if there are fewer than the count."""
    number = count if isinstance(count, int) else None
    size = None if number is None else number + int(number * _SPARE_SHARE) + _SPARE
    outcome = SourceOutcome(source.name, source.title, source.home, source.license, count or 0)
    queue = _filled(_Queue(source, number, size, frozenset(), outcome), seed, on_progress)
    if outcome.read < (number or 0):
        raise outcome.too_few(outcome.read)
    return queue


def _filled(queue: _Queue, seed: int, on_progress: SamplingProgress) -> _Queue:
    name = queue.source.name
    places = (place(seed, name, record) for record in queue.source.records())
    chosen, queue.outcome.read = first(queue.size, places, lambda done: on_progress(f"{name}: reading", done))
    return replace(queue, chosen=chosen)


def _draw(
    queues: Iterable[_Queue],
    seed: int,
    finder: Finder,
    on_progress: SamplingProgress,
) -> list[tuple[Place, str]]:
    """The places that are drawn, with the name of the source, in order."""
    drawn: list[tuple[Place, str]] = []
    seen: set[str] = set()
    for queue in queues:
        name = queue.source.name
        while True:
            finder.find_out(name, queue.source.records(), queue.chosen, seed)
            candidates = (it for it in examined(finder.store, name) if it.place in queue.chosen)
            mine = _take(candidates, queue.count, seen, queue.outcome)
            if len(mine) == queue.count:
                break
            if queue.size is None or queue.size >= queue.outcome.read:  # all of them were examined
                queue.outcome.duplicates += queue.outcome.read - len(queue.chosen)  # the same row again
                if queue.count is None:
                    break
                raise queue.outcome.too_few(len(mine))
            queue = _filled(replace(queue, size=queue.size * 2), seed, on_progress)
        seen |= {content for _, content in mine}
        drawn += [(at, name) for at, _ in mine]
    return sorted(drawn)


def _take(
    candidates: Iterable[DrawCandidate], count: int | None, seen: set[str], outcome: SourceOutcome
) -> list[tuple[Place, str]]:
    """Places and contents of the candidates that are drawn; the rejected ones are counted in `outcome`.

    `seen` are the contents that were drawn from other sources.
    """
    drawn: list[tuple[Place, str]] = []
    mine: set[str] = set()
    rejected: Counter[str] = Counter()
    for it in candidates:
        if len(drawn) == count:
            break
        if it.rejected or it.content in seen or it.content in mine:
            rejected[it.rejected or "duplicate"] += 1
        else:
            mine.add(it.content)
            drawn.append((it.place, it.content))
    outcome.drawn = len(drawn)
    outcome.duplicates, outcome.unreadable = rejected["duplicate"], rejected["unreadable"]
    outcome.overlaps_by_picture, outcome.overlaps_by_text = rejected["picture"], rejected["text"]
    return drawn


def _write(folder: Path, report: dict[str, Any], drawn: Iterable[tuple[Place, str]], store: Store) -> None:
    """Write the questions and the report, and remove the pictures of records that were not drawn."""
    ids: set[str] = set()
    pictures: set[str] = set()
    digest = hashlib.sha256()
    part = folder / (QUESTIONS + ".part")
    with part.open("wb") as lines:
        for at, name in drawn:
            line = json.loads(examined_line(store, name, at))
            line["id"] = _free(line["id"], ids)
            ids.add(line["id"])
            names = [line["image"]] if "image" in line else line.get("images", [])
            missing = next((it for it in names if not (folder / it).is_file()), None)
            if missing is not None:
                raise DataError(
                    f"the picture {missing} is missing from {folder}; remove the folder, and draw again"
                )
            pictures.update(names)
            data = json.dumps(line).encode() + b"\n"
            digest.update(data)
            lines.write(data)
    _remove_others(folder / FOLDER, {folder / name for name in pictures})
    report |= {"pictures": len(pictures), "questions_sha256": digest.hexdigest()}
    write_whole(folder / REPORT, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    part.replace(folder / QUESTIONS)


def _free(id: str, taken: set[str]) -> str:
    """The id, with a number if it is taken: by another source, or by one that repeats ids."""
    if id not in taken:
        return id
    return next(f"{id}-{number}" for number in count(2) if f"{id}-{number}" not in taken)


def _remove_others(folder: Path, files_to_keep: set[Path]) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):  # the files of a folder before it
        if not path.is_dir():
            if path not in files_to_keep:
                path.unlink()
        elif next(path.iterdir(), None) is None:
            path.rmdir()
