"""The public benchmarks that VLMEvalKit publishes as TSV files: what each is, and how its rows are read.

As in VLMEvalKit (`build_prompt` in `vlmeval/dataset/image_mcq.py` and `image_base.py`) a hint comes before
the question, and rows without a picture are skipped; differences are in `docs/reference/benchmarks.md`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from llava_cot.core.files import home_path
from llava_cot.data.record import Picture, Record, pictures_until
from llava_cot.data.sources.tsv import parse_list, read_tsv, tsv_rows
from llava_cot.errors import DataError
from llava_cot.evaluation.benchmarks.fetching import URLS, fetch_file
from llava_cot.evaluation.scoring.choice import INDEX_STEP, ChoiceRule, CircularRule, rotations
from llava_cot.evaluation.scoring.mathvista import MathVistaRule
from llava_cot.evaluation.scoring.mmvet import MMVetRule
from llava_cot.evaluation.scoring.yes_no import HallusionRule
from llava_cot.evaluation.types import Benchmark, BenchmarkItem, ScoringRule

_VARIABLES = ("LMUData", "LMUDataRoot")  # VLMEvalKit reads the first, in a function with the second's name


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
        yield replace(item_of(record, file, skill=extra["task"], hint=False, extra=extra), options=())


def item_of(
    record: Record, file: Path, skill: str, hint: bool = True, extra: Mapping[str, Any] | None = None
) -> BenchmarkItem:
    """Return the first question of a record. Raises DataError if it has no answer."""
    turn = record.turns[0]
    if not turn.answer:
        raise DataError(f"{file}, question {record.id}: it has no answer, so it cannot be scored")
    more, text = dict(extra or {}), turn.question
    if hint and turn.hints:
        more["question"] = text
        text = f"Hint: {turn.hints}\n{text}"
    pictures = record.pictures[: pictures_until(record, 0)]
    if pictures:
        more["cluster"] = " ".join(_picture_name(picture) for picture in pictures)
    return BenchmarkItem(record.id, text, turn.options, turn.answer, pictures, skill, more)


def _picture_name(picture: Picture) -> str:
    """Return a name that equal pictures share; a file may hold one picture several times."""
    if picture.file is not None:
        return picture.name
    try:
        return hashlib.sha256(picture.read()).hexdigest()[:16]
    except (DataError, OSError):  # reported when the question is asked
        return picture.name


def _choices(file: Path, skill: str, finer: str = "") -> Iterator[BenchmarkItem]:
    keep = (skill, finer) if finer else (skill,)
    return (_choice(record, file, skill, finer) for record in _records(file, keep))


def _choice(record: Record, file: Path, skill: str, finer: str) -> BenchmarkItem:
    more = {"finer": str(record.extra[finer])} if finer in record.extra else {}
    return item_of(record, file, str(record.extra.get(skill, "")), extra=more)


def _records(file: Path, keep: Sequence[str]) -> Iterator[Record]:
    return (record for record in read_tsv(file, keep=keep) if record.pictures)


def _mmbench(file: Path) -> Iterator[BenchmarkItem]:
    """MMBench; `extra["group"]` is the id of the unrotated question, by `g_index` or else the index."""
    for record in _records(file, ("l2-category", "category", "g_index")):
        name, _, index = record.id.rpartition("/")
        try:
            group = int(float(record.extra.get("g_index") or int(index) % INDEX_STEP))
        except ValueError:
            raise DataError(f"{file}, question {record.id}: its index is not a number") from None
        yield _with(_choice(record, file, "l2-category", "category"), group=f"{name}/{group}")


def _with(item: BenchmarkItem, **extra: Any) -> BenchmarkItem:
    return replace(item, extra={**item.extra, **extra})


@dataclass(frozen=True)
class TsvBenchmark:
    """A benchmark in one of `files`, the first that is there.

    `check` raises DataError for a file that cannot be scored. The other fields are as in `Benchmark`.
    """

    name: str
    title: str
    page: str
    files: tuple[str, ...]
    rule: ScoringRule
    read: Callable[[Path], Iterator[BenchmarkItem]]
    note: str = ""
    check: Callable[[Path], None] | None = None


_MMBENCH_FILES = ("MMBench_DEV_EN_V11.tsv", "MMBench_TEST_EN_V11.tsv")
_MMBENCH_PAGE = "https://arxiv.org/abs/2307.06281"
_AI2D_PAGE = "https://allenai.org/data/diagrams"

TABLES = {
    table.name: table
    for table in (
        TsvBenchmark(
            "mmstar", "MMStar", "https://arxiv.org/abs/2403.20330", ("MMStar.tsv",), ChoiceRule(), mmstar
        ),
        TsvBenchmark(
            "mmbench", "MMBench 1.1", _MMBENCH_PAGE, _MMBENCH_FILES, ChoiceRule(), mmbench,
            "Each question is asked once; VLMEvalKit reports circular evaluation, which is lower.",
            check_answers,
        ),
        TsvBenchmark(
            "mmbench-circular", "MMBench 1.1, circular evaluation", _MMBENCH_PAGE, _MMBENCH_FILES,
            CircularRule(), mmbench_circular,
            "A question counts if it is answered correctly under every rotation of its options.",
            check_answers,
        ),
        TsvBenchmark(
            "ai2d", "AI2D, masked (AI2D_TEST)", _AI2D_PAGE, ("AI2D_TEST.tsv",), ChoiceRule(), ai2d,
            "AI2D_TEST: labels in the diagrams are masked by letters. Version 6 of the paper reports it; "
            "version 1 reported AI2D_TEST_NO_MASK (ai2d-no-mask) by mistake, which is 7 to 10 points easier.",
        ),
        TsvBenchmark(
            "ai2d-no-mask", "AI2D, not masked (AI2D_TEST_NO_MASK)", _AI2D_PAGE, ("AI2D_TEST_NO_MASK.tsv",),
            ChoiceRule(), ai2d,
            "AI2D_TEST_NO_MASK: labels in the diagrams can be read. Version 1 of the paper reported it by "
            "mistake; what VLMEvalKit and others call AI2D is AI2D_TEST (ai2d), 7 to 10 points harder.",
        ),
        TsvBenchmark(
            "hallusion", "HallusionBench", "https://arxiv.org/abs/2310.14566", ("HallusionBench.tsv",),
            HallusionRule(), hallusion,
            "The score is the mean of aAcc, fAcc and qAcc, as on the OpenVLM leaderboard.",
        ),
        TsvBenchmark(
            "mmvet", "MM-Vet", "https://arxiv.org/abs/2308.02490", ("MMVet.tsv",), MMVetRule(), mmvet
        ),
        TsvBenchmark(
            "mathvista", "MathVista, testmini", "https://arxiv.org/abs/2310.02255", ("MathVista_MINI.tsv",),
            MathVistaRule(), mathvista,
        ),
    )
}  # fmt: skip


def open_table(table: TsvBenchmark, root: Path | None = None, *, download: bool = False) -> Benchmark:
    """Open a public benchmark; see `open_benchmark` for `root` and `download`. Raises DataError."""
    file = _find_file(table.files, root, download)
    if table.check is not None:
        table.check(file)
    return Benchmark(table.name, table.title, table.page, partial(table.read, file), table.rule, table.note)


def benchmark_file(name: str) -> Path:
    """The file of a public benchmark by its name, downloaded if it is missing; a path is the file itself.

    Raises DataError if the file of a benchmark cannot be had.
    """
    path = home_path(name)
    return path if path.exists() or name not in TABLES else _find_file(TABLES[name].files, None, True)


def _find_file(names: Sequence[str], root: Path | None, download: bool) -> Path:
    """Return the first of these files that is there, or is downloaded. Raises DataError with its URL."""
    named = next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), "~/LMUData")
    folder = home_path(root or named)
    if folder.is_file() and folder.name in names:
        return folder
    for name in names:
        if (folder / name).is_file():
            return folder / name
    if download and (root is None or folder.is_dir()):
        from huggingface_hub import constants

        if not constants.HF_HUB_OFFLINE:
            return fetch_file(names[0], folder)
    raise DataError(
        f"there is no {' and no '.join(names)} in {folder}; download {URLS[names[0]]} into it, or set the "
        f"environment variable {_VARIABLES[0]} to the folder that has it"
    )
