"""Calibration: the distribution of a judge's scores, and the cut-off above which a score is good enough."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from llava_cot.core.files import read_bounded, write_whole
from llava_cot.core.wording import first_fault
from llava_cot.errors import DataError
from llava_cot.search.judge_prompts import default_prompts
from llava_cot.search.judges.base import JUDGES, Judge

# Standard deviations above the mean (arXiv 2411.10440, version 6, and its script): two fifths of normally
# distributed scores lie above.
Z = 0.2533
_MOST_BYTES = 2**20  # of a file


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Calibration:
    """The distribution of a judge's scores, in its own units; written by `llava-cot judge calibrate`.

    Attributes:
        judge: The judge's name.
        mean: The mean of its scores.
        deviation: Their standard deviation.
        count: The number of samples that were scored.
        model: The model that the samples are from.
        judge_model: The model that the judge used, if it used one.
        stage: The stage that was scored.
        seed: The seed of the samples.
        prompts: A hash of the judge's prompts (`prompts_of`); None for the default wording.
    """

    judge: str
    mean: float
    deviation: Annotated[float, Field(ge=0)]
    count: int | None = None
    model: str | None = None
    judge_model: str | None = None
    stage: str = "reasoning"
    seed: int | None = None
    prompts: str | None = None

    @property
    def cut_off(self) -> float:
        """The score above which a candidate is good enough."""
        return self.mean + Z * self.deviation

    def save(self, path: str | Path) -> None:
        """Write as JSON, whole or not at all. Raises ValueError or OSError."""
        fields = asdict(self) | {"cut_off": self.cut_off}
        if self.prompts is None:
            del fields["prompts"]
        write_whole(path, json.dumps(fields, indent=1) + "\n")


# Of InternLM-XComposer2.5-7B-Reward on reasonings about MMStar (the same paper and script). Any other reward
# model has units of its own, and must be calibrated.
PAPER = Calibration("reward", -0.77, 2.08)
# Cut-offs of scores with a known scale: the probability of being correct; 1 for true, 0 for not; the share of
# rules kept, where anything but all is a fault.
ABSOLUTE = {"logits": 0.5, "verifier": 0.5, "rules": 0.99}


def has_cut_off(judge: str) -> bool:
    """Whether the judge of this name has a cut-off without a calibration."""
    return judge in ABSOLUTE or judge == PAPER.judge


def prompts_of(judge: Judge) -> str | None:
    """A hash of the wording of a judge that asks in words of its own; None for the default, or no words."""
    prompted, prompts = judge.name in JUDGES and JUDGES[judge.name].prompted, judge.setup.prompts
    return prompts.digest if prompted and prompts != default_prompts() else None


def cut_off(judge: Judge, calibration: Calibration | None) -> float:
    """The score above which a candidate is good enough: by the calibration, or the judge's known scale.

    Raises:
        ValueError: The judge has no known scale, or the calibration is of another judge, model or wording.
    """
    command = f"`llava-cot judge calibrate --judge {judge.name}`"
    if calibration is None:
        if judge.name in ABSOLUTE:
            return ABSOLUTE[judge.name]
        if judge.name != PAPER.judge:
            raise ValueError(
                f"the scores of the judge {judge.name} have no known scale; measure them with {command} and "
                "pass its file with --calibration"
            )
        calibration = PAPER
    if calibration.judge != judge.name:
        raise ValueError(
            f"the calibration was made for the judge {calibration.judge}, but this is {judge.name}; make one "
            f"with {command}"
        )
    used, measured = judge.model_name, calibration.judge_model
    if used is not None and measured is not None and used != measured:
        raise ValueError(
            f"the calibration was made for the judge {judge.name} with the model {measured}, which now uses "
            f"{used}; make one with {command}"
        )
    if calibration.prompts != prompts_of(judge):
        raise ValueError(
            f"the calibration was made for the judge {judge.name} with other judge prompts; make one with "
            f"{command} and the same --judge-prompts"
        )
    return calibration.cut_off


def load_calibration(path: str | Path) -> Calibration:
    """Read what `save` wrote. Raises ValueError with one sentence if it is something else."""
    try:
        data: Any = json.loads(read_bounded(path, _MOST_BYTES))
    except OSError as error:
        raise ValueError(f"cannot read the calibration {path}: {error.strerror}") from None
    except DataError:
        raise
    except (ValueError, RecursionError):
        raise ValueError(
            f"{path} is not JSON; `llava-cot judge calibrate --out FILE` writes calibrations"
        ) from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} is not a calibration: it is not a JSON object")
    written = data.pop("cut_off", None)
    try:
        found = Calibration(**data)
    except (ValidationError, TypeError) as error:
        fault = first_fault(error) if isinstance(error, ValidationError) else error
        raise ValueError(f"{path} is not a calibration: {fault}") from None
    if written is not None and not _same(written, found.cut_off):
        raise ValueError(
            f"the cut_off in {path} is not mean + {Z} x deviation, which is {found.cut_off:g}; change mean "
            "or deviation, and remove cut_off"
        )
    return found


def _same(written: object, computed: float) -> bool:
    if not isinstance(written, int | float) or not abs(written) <= 1e300:
        return False
    return math.isclose(written, computed, rel_tol=1e-6, abs_tol=1e-9)
