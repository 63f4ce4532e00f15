"""How a judge scores in a sample, and the cut-off that follows: which of its scores are good enough.

Owns the file that `llava-cot judge calibrate` writes, and the cut-offs that need no sample. Knows judges by
name alone.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from llava_cot.core.files import write_whole
from llava_cot.search.judges.base import Judge

# Deviations above the mean (arXiv 2411.10440, version 6, and its script): of scores that are spread normally,
# two fifths lie above.
Z = 0.2533


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Calibration:
    """The scores that a judge gave in a sample, in its own units. Raises ValueError if that cannot be.

    What was graded were `count` samples of a `stage` by `model`; `judge_model` is whom the judge asked, None
    if nobody.
    """

    judge: str
    mean: float
    deviation: Annotated[float, Field(ge=0)]
    count: int | None = None
    model: str | None = None
    judge_model: str | None = None
    stage: str = "reasoning"
    seed: int | None = None

    @property
    def cut_off(self) -> float:
        return self.mean + Z * self.deviation

    def save(self, path: str | Path) -> None:
        """Write as JSON, whole or not at all. Raises ValueError or OSError."""
        write_whole(path, json.dumps(asdict(self) | {"cut_off": self.cut_off}, indent=1) + "\n")


# Of InternLM-XComposer2.5-7B-Reward on reasonings about MMStar (the same paper and script). Any other reward
# model has units of its own, and is to be calibrated.
PAPER = Calibration("reward", -0.77, 2.08)
# Scores that mean the same everywhere: the probability of being correct; 1 for true, 0 for not; the share of
# rules that are kept, where anything but all is a fault.
ABSOLUTE = {"logits": 0.5, "verifier": 0.5, "rules": 0.99}


def has_cut_off(judge: str) -> bool:
    """Whether the judge of this name has a cut-off without a calibration."""
    return judge in ABSOLUTE or judge == PAPER.judge


def cut_off(judge: Judge, calibration: Calibration | None) -> float:
    """The score above which a candidate is good enough: by the calibration, or else as is known of the judge.

    Raises ValueError if nothing is known, or the calibration is of other scores.
    """
    anew = f"`llava-cot judge calibrate --judge {judge.name}`"
    if calibration is None:
        if judge.name in ABSOLUTE:
            return ABSOLUTE[judge.name]
        if judge.name != PAPER.judge:
            raise ValueError(
                f"nothing tells which scores of the judge {judge.name} are good enough; measure them with "
                f"{anew} and give what it writes with --calibration"
            )
        calibration = PAPER
    if calibration.judge != judge.name:
        raise ValueError(
            f"the calibration is of the judge {calibration.judge}, and the judge is {judge.name}; make one "
            f"with {anew}"
        )
    asked, measured = judge.model_name, calibration.judge_model
    if asked is not None and measured is not None and asked != measured:
        raise ValueError(
            f"the calibration is of the judge {judge.name} asking {measured}, which now asks {asked}; make "
            f"one with {anew}"
        )
    return calibration.cut_off


def load_calibration(path: str | Path) -> Calibration:
    """Read what `save` wrote. Raises ValueError with one sentence if it is something else."""
    try:
        data: Any = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"cannot read the calibration {path}: {error.strerror}") from None
    except ValueError:
        raise ValueError(
            f"{path} is no JSON; `llava-cot judge calibrate --out FILE` writes calibrations"
        ) from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} is not a calibration: it is no JSON object")
    told = data.pop("cut_off", None)
    try:
        found = Calibration(**data)
    except (ValidationError, TypeError) as error:
        raise ValueError(f"{path} is not a calibration: {_fault(error)}") from None
    if told is not None and not _same(told, found.cut_off):
        raise ValueError(
            f"the cut_off in {path} is not mean + {Z} x deviation, which is {found.cut_off:g}; change mean "
            "or deviation, and leave cut_off out"
        )
    return found


def _fault(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _same(told: object, computed: float) -> bool:
    return isinstance(told, int | float) and math.isclose(told, computed, rel_tol=1e-6, abs_tol=1e-9)
