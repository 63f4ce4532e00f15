"""The public benchmarks that VLMEvalKit keeps as TSV files: what each is, and its rows as questions.

Owns the table. How a row becomes a question is `rows.py`'s subject, how it is scored `scoring/`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llava_cot.evaluation.benchmarks import rows
from llava_cot.evaluation.scoring.choice import Choice
from llava_cot.evaluation.scoring.circular import Circular
from llava_cot.evaluation.scoring.hallusion import Hallusion
from llava_cot.evaluation.types import BenchmarkItem, ScoringRule


def _mmvet() -> ScoringRule:
    from llava_cot.evaluation.scoring.mmvet import MMVet

    return MMVet()


def _mathvista() -> ScoringRule:
    from llava_cot.evaluation.scoring.mathvista import MathVista

    return MathVista()


@dataclass(frozen=True)
class TsvBenchmark:
    """A benchmark in one of `files`, the first of them that is there. `note` is said beside its figures,
    `check` raises DataError for a file that cannot be scored by."""

    name: str
    title: str
    page: str
    files: tuple[str, ...]
    rule: Callable[[], ScoringRule]
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
            "mmstar", "MMStar", "https://arxiv.org/abs/2403.20330", ("MMStar.tsv",), Choice, rows.mmstar
        ),
        TsvBenchmark(
            "mmbench",
            "MMBench 1.1",
            _MMBENCH_PAGE,
            _MMBENCH_FILES,
            Choice,
            rows.mmbench,
            "Each question is asked once; VLMEvalKit reports circular evaluation, which is lower.",
            rows.check_answers,
        ),
        TsvBenchmark(
            "mmbench-circular",
            "MMBench 1.1, circular evaluation",
            _MMBENCH_PAGE,
            _MMBENCH_FILES,
            Circular,
            rows.mmbench_circular,
            "A question counts if it is answered rightly under every rotation of its options.",
            rows.check_answers,
        ),
        TsvBenchmark(
            "ai2d",
            "AI2D, masked (AI2D_TEST)",
            _AI2D_PAGE,
            ("AI2D_TEST.tsv",),
            Choice,
            rows.ai2d,
            "AI2D_TEST: labels in the diagrams are masked by letters. Version 6 of the paper reports it; "
            "version 1 reported AI2D_TEST_NO_MASK (ai2d-no-mask) by mistake, which is 7 to 10 points easier.",
        ),
        TsvBenchmark(
            "ai2d-no-mask",
            "AI2D, not masked (AI2D_TEST_NO_MASK)",
            _AI2D_PAGE,
            ("AI2D_TEST_NO_MASK.tsv",),
            Choice,
            rows.ai2d,
            "AI2D_TEST_NO_MASK: labels in the diagrams can be read. Version 1 of the paper reported it by "
            "mistake; what VLMEvalKit and others call AI2D is AI2D_TEST (ai2d), 7 to 10 points harder.",
        ),
        TsvBenchmark(
            "hallusion",
            "HallusionBench",
            "https://arxiv.org/abs/2310.14566",
            ("HallusionBench.tsv",),
            Hallusion,
            rows.hallusion,
            "The figure is the mean of aAcc, fAcc and qAcc, as on the OpenVLM leaderboard.",
        ),
        TsvBenchmark(
            "mmvet", "MM-Vet", "https://arxiv.org/abs/2308.02490", ("MMVet.tsv",), _mmvet, rows.mmvet
        ),
        TsvBenchmark(
            "mathvista",
            "MathVista, testmini",
            "https://arxiv.org/abs/2310.02255",
            ("MathVista_MINI.tsv",),
            _mathvista,
            rows.mathvista,
        ),
    )
}
