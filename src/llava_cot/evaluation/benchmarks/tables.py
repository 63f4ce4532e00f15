"""The public benchmarks that VLMEvalKit publishes as TSV files: what each is, and where its file is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from llava_cot.errors import DataError
from llava_cot.evaluation.benchmarks import tsv_rows as rows
from llava_cot.evaluation.scoring.choice import ChoiceRule, CircularRule
from llava_cot.evaluation.scoring.mathvista import MathVistaRule
from llava_cot.evaluation.scoring.mmvet import MMVetRule
from llava_cot.evaluation.scoring.yes_no import HallusionRule
from llava_cot.evaluation.types import Benchmark, BenchmarkItem, ScoringRule

# `DATASET_URL` in `vlmeval/dataset/image_*.py` of ms-vlmeval 0.0.20.
_HOME = "https://opencompass.openxlab.space/utils"
URLS = {
    f"{name}.tsv": f"{_HOME}/{folder}/{name}.tsv"
    for folder, names in (
        ("VLMEval", "MMStar AI2D_TEST AI2D_TEST_NO_MASK HallusionBench MMVet MathVista_MINI"),
        ("benchmarks/MMBench", "MMBench_DEV_EN_V11 MMBench_TEST_EN_V11"),
    )
    for name in names.split()
}
_VARIABLES = ("LMUData", "LMUDataRoot")  # VLMEvalKit reads the first, in a function with the second's name


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
            "mmstar", "MMStar", "https://arxiv.org/abs/2403.20330", ("MMStar.tsv",), ChoiceRule(), rows.mmstar
        ),
        TsvBenchmark(
            "mmbench",
            "MMBench 1.1",
            _MMBENCH_PAGE,
            _MMBENCH_FILES,
            ChoiceRule(),
            rows.mmbench,
            "Each question is asked once; VLMEvalKit reports circular evaluation, which is lower.",
            rows.check_answers,
        ),
        TsvBenchmark(
            "mmbench-circular",
            "MMBench 1.1, circular evaluation",
            _MMBENCH_PAGE,
            _MMBENCH_FILES,
            CircularRule(),
            rows.mmbench_circular,
            "A question counts if it is answered correctly under every rotation of its options.",
            rows.check_answers,
        ),
        TsvBenchmark(
            "ai2d",
            "AI2D, masked (AI2D_TEST)",
            _AI2D_PAGE,
            ("AI2D_TEST.tsv",),
            ChoiceRule(),
            rows.ai2d,
            "AI2D_TEST: labels in the diagrams are masked by letters. Version 6 of the paper reports it; "
            "version 1 reported AI2D_TEST_NO_MASK (ai2d-no-mask) by mistake, which is 7 to 10 points easier.",
        ),
        TsvBenchmark(
            "ai2d-no-mask",
            "AI2D, not masked (AI2D_TEST_NO_MASK)",
            _AI2D_PAGE,
            ("AI2D_TEST_NO_MASK.tsv",),
            ChoiceRule(),
            rows.ai2d,
            "AI2D_TEST_NO_MASK: labels in the diagrams can be read. Version 1 of the paper reported it by "
            "mistake; what VLMEvalKit and others call AI2D is AI2D_TEST (ai2d), 7 to 10 points harder.",
        ),
        TsvBenchmark(
            "hallusion",
            "HallusionBench",
            "https://arxiv.org/abs/2310.14566",
            ("HallusionBench.tsv",),
            HallusionRule(),
            rows.hallusion,
            "The score is the mean of aAcc, fAcc and qAcc, as on the OpenVLM leaderboard.",
        ),
        TsvBenchmark(
            "mmvet", "MM-Vet", "https://arxiv.org/abs/2308.02490", ("MMVet.tsv",), MMVetRule(), rows.mmvet
        ),
        TsvBenchmark(
            "mathvista",
            "MathVista, testmini",
            "https://arxiv.org/abs/2310.02255",
            ("MathVista_MINI.tsv",),
            MathVistaRule(),
            rows.mathvista,
        ),
    )
}


def open_table(table: TsvBenchmark, root: Path | None = None) -> Benchmark:
    """Open a public benchmark; see `open_benchmark` for `root`. Raises DataError."""
    file = _find_file(table.files, root)
    if table.check is not None:
        table.check(file)
    return Benchmark(table.name, table.title, table.page, partial(table.read, file), table.rule, table.note)


def _find_file(names: Sequence[str], root: Path | None) -> Path:
    """Return the first of these files that is there. Raises DataError with the download URL."""
    named = next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), "~/LMUData")
    folder = (root or Path(named)).expanduser()
    if folder.is_file() and folder.name in names:
        return folder
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(
        f"there is no {' and no '.join(names)} in {folder}; download {URLS[names[0]]} into it, or set the "
        f"environment variable {_VARIABLES[0]} to the folder that has it"
    )
