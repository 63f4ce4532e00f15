"""From the rows of VLMEvalKit's TSV files to questions, one function a benchmark.

As in VLMEvalKit (`build_prompt` in `vlmeval/dataset/image_mcq.py` and `image_base.py`) a hint comes before
the question, and rows without a picture are skipped; differences are in `docs/reference/benchmarks.md`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llava_cot.data.record import Picture, Record
from llava_cot.data.sources.tsv import parse_list, read_tsv, tsv_rows
from llava_cot.errors import DataError
from llava_cot.evaluation.scoring.choice import INDEX_STEP, rotations
from llava_cot.evaluation.types import BenchmarkItem


def mmstar(file: Path) -> Iterator[BenchmarkItem]:
    """MMStar, by the six skills (category), and within them by l2-category."""
    return _choices(file, "category", "l2-category")


def ai2d(file: Path) -> Iterator[BenchmarkItem]:
    """AI2D, by category."""
    return _choices(file, "category")


def mmbench(file: Path) -> Iterator[BenchmarkItem]:
    """MMBench without rotations, by the six l2-categories, and within them by category."""
    return (item for item in _mmbench(file) if item.extra["group"] == item.id)


def mmbench_circular(file: Path) -> Iterator[BenchmarkItem]:
    """MMBench, each question followed by its rotations.

    Rotations are those of the file, under indices from a million on, or are made here if it has none. The
    whole file is read before the first question, since the rotations are at its end.
    """
    groups: dict[str, list[BenchmarkItem]] = {}
    for item in _mmbench(file):
        groups.setdefault(item.extra["group"], []).append(item)
    made = all(len(group) == 1 for group in groups.values())
    for key, group in groups.items():
        if not any(item.id == key for item in group):
            continue  # VLMEvalKit does not count rotations of a question that is not in the file
        for item in group:
            if made:
                yield from rotations(item)
            else:
                yield _with(item, rotations=len(group), cluster=group[0].extra["cluster"])


def check_answers(file: Path) -> None:
    """Raise DataError for a file that is published without answers, as MMBench's test split is."""
    first = next(tsv_rows(file, ("index", "question")), None)
    if first is not None and not first[1].get("answer"):
        raise DataError(
            f"{file} is published without answers, so it cannot be scored here; use MMBench_DEV_EN_V11.tsv "
            "(the paper's scores are of the test split, scored by a server)"
        )


def hallusion(file: Path) -> Iterator[BenchmarkItem]:
    """HallusionBench, by l2-category. "VD_figure_1_2_0_3" ends with set, figure and question."""
    for item in _choices(file, "l2-category"):
        parts = item.id.rpartition("/")[2].split("_")
        if len(parts) < 6:
            raise DataError(
                f"{file}, question {item.id}: its index does not say its set, figure and question"
            )
        together = f"{item.skill}_{parts[3]}"
        figure, question = f"{together}_{parts[4]}", f"{together}_{parts[5]}"
        yield _with(item, cluster=together, figure=figure, asked=question)


def mmvet(file: Path) -> Iterator[BenchmarkItem]:
    """MM-Vet; `skill` and `extra["capability"]` are the capabilities that a question needs ("rec,know")."""
    for record in _records(file, ("category",)):
        capability = str(record.extra.get("category", ""))
        yield item_of(record, file, skill=capability, hint=False, extra={"capability": capability})


_MATHVISTA = ("question_type", "answer_type", "answer_option", "choices", "task", "skills", "precision")


def mathvista(file: Path) -> Iterator[BenchmarkItem]:
    """MathVista, by task.

    The question's text already has the choices and the form of the answer. `extra` has the columns that the
    rule needs; choices and skills are lists.
    """
    for record in _records(file, _MATHVISTA):
        extra: dict[str, Any] = {key: record.extra.get(key, "") for key in _MATHVISTA}
        for key in ("choices", "skills"):
            extra[key] = parse_list(extra[key])
        item = item_of(record, file, skill=extra["task"], hint=False, extra=extra)
        yield replace(item, options=())


def item_of(
    record: Record,
    file: Path,
    skill: str,
    finer: str = "",
    hint: bool = True,
    extra: dict[str, Any] | None = None,
) -> BenchmarkItem:
    """Return the first question of a record. Raises DataError if it has no answer."""
    turn = record.turns[0]
    if not turn.answer:
        raise DataError(f"{file}, question {record.id}: it has no answer, so it cannot be scored")
    more: dict[str, Any] = dict(extra or {})
    if finer:
        more["finer"] = finer
    text = turn.question
    if hint and turn.hints:
        more["question"] = text
        text = f"Hint: {turn.hints}\n{text}"
    if record.pictures:
        more["cluster"] = " ".join(_picture_name(picture) for picture in record.pictures)
    return BenchmarkItem(record.id, text, turn.options, turn.answer, record.pictures, skill, more)


def _picture_name(picture: Picture) -> str:
    """Return a name that equal pictures share; a file may hold one picture several times."""
    if picture.file is not None:
        return picture.name
    try:
        return hashlib.sha256(picture.read()).hexdigest()[:16]
    except (DataError, OSError):  # reported when the question is asked
        return picture.name


def _choices(file: Path, skill: str, finer: str = "", keep: Sequence[str] = ()) -> Iterator[BenchmarkItem]:
    for record in _records(file, (skill, *([finer] if finer else []), *keep)):
        more = {key: record.extra.get(key, "") for key in keep}
        yield item_of(
            record, file, str(record.extra.get(skill, "")), str(record.extra.get(finer, "")), extra=more
        )


def _records(file: Path, keep: Sequence[str]) -> Iterator[Record]:
    return (record for record in read_tsv(file, keep=keep) if record.pictures)


def _mmbench(file: Path) -> Iterator[BenchmarkItem]:
    """MMBench; `extra["group"]` is the id of the unrotated question, by `g_index` or else the index."""
    for item in _choices(file, "l2-category", "category", ("g_index",)):
        name, _, index = item.id.rpartition("/")
        try:
            group = int(float(item.extra["g_index"] or int(index) % INDEX_STEP))
        except ValueError:
            raise DataError(f"{file}, question {item.id}: its index is not a number") from None
        rest = {key: value for key, value in item.extra.items() if key != "g_index"}
        yield replace(item, extra={**rest, "group": f"{name}/{group}"})


def _with(item: BenchmarkItem, **extra: Any) -> BenchmarkItem:
    return replace(item, extra={**item.extra, **extra})
