"""The paper's ablations by the product's own verbs: a base model, trained in four ways on the same questions.

`data sample` draws hard scenes, `data annotate --teacher scenes` writes their answers, and `train` makes each
model by one recipe (arms.yaml), several times with other orders of the records.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

import yaml

from llava_cot.core.files import make_recipe, read_yaml, write_whole
from llava_cot.core.stages import LLAVA_COT, StageFormat, parse, render
from llava_cot.data.annotation.annotate import annotate_to
from llava_cot.data.annotation.teachers import open_teacher
from llava_cot.data.reading import RecordFile
from llava_cot.data.record import Record, to_json
from llava_cot.data.sampling.finding import SamplingProgress
from llava_cot.data.sampling.sample import sample
from llava_cot.errors import DataError
from llava_cot.evaluation.scorer import AnswerSource
from llava_cot.train.recipe import TrainRecipe, TrainTarget

RECIPE = Path(__file__).with_name("arms.yaml")
_SHUFFLED = "shuffled.jsonl"
_ORDERS = [order for order in permutations(LLAVA_COT.stages) if order != LLAVA_COT.stages]


@dataclass(frozen=True)
class TrainingArm:
    """A way of training: what is learned, from which file of records, and where the answer then is."""

    name: str
    target: TrainTarget
    answer_source: AnswerSource
    records: str = "train.jsonl"


ARMS = {
    arm.name: arm
    for arm in (
        TrainingArm("staged", "staged", "conclusion"),
        TrainingArm("untagged", "untagged", "last-line"),
        TrainingArm("direct", "direct", "whole"),
        TrainingArm("shuffled", "staged", "conclusion", _SHUFFLED),
    )
}


@dataclass(frozen=True)
class ArmTraining:
    """One model: a way of training with a seed, from a base model, in a folder of them all."""

    arm: TrainingArm
    seed: int
    base: str
    folder: Path

    @property
    def name(self) -> str:
        """Its name in reports, such as "staged-0"."""
        return f"{self.arm.name}-{self.seed}"

    @property
    def recipe(self) -> TrainRecipe:
        """The recipe: arms.yaml, and what differs."""
        own = {
            "model": self.base,
            "out": str(self.folder / self.name),
            "data": [{"path": str(_staged(self.folder) / self.arm.records)}],
            "target": self.arm.target,
            "seed": self.seed,
        }
        return make_recipe(read_yaml(RECIPE) | own, TrainRecipe, RECIPE)

    @property
    def model(self) -> Path:
        """The folder of the trained model."""
        return self.folder / self.name / "model"


def trainings(base: str, folder: Path, seeds: Sequence[int]) -> list[ArmTraining]:
    """Return all models to train, those of one seed together."""
    return [ArmTraining(arm, seed, base, folder) for seed in seeds for arm in ARMS.values()]


def steps_of(questions: int) -> int:
    """Return the optimizer steps of each training on so many questions."""
    fields: dict[str, float] = read_yaml(RECIPE)
    return math.ceil(questions * fields["epochs"] / fields["batch"])


def train_arm(
    training: ArmTraining, on_done: Callable[[int], None], on_interrupt: Callable[[], None] = lambda: None
) -> None:
    """Train a model, or continue with it. `on_done` gets the steps so far. Raises as `train` does."""
    from llava_cot.train.training_run import train  # which imports torch

    model = train(training.recipe, resume=True, on_step=lambda step, steps, log: on_done(step))
    on_done(json.loads(model.with_name("train.json").read_text(encoding="utf-8"))["steps"])


def make_data(folder: Path, questions: int, on_progress: SamplingProgress) -> None:
    """Write the records of all ways of training into a folder; what is there already is not made again.

    Raises DataError where the folder has another number of questions.
    """
    recipe = folder / "questions.yaml"
    source = {"source": "scenes", "split": "train", "count": questions, "difficulty": "hard"}
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(recipe, yaml.safe_dump({"seed": 0, "sources": [source]}))
    sample(recipe, folder / "questions", on_progress)
    staged, shuffled = _staged(folder), _staged(folder) / _SHUFFLED
    if shuffled.is_file():  # the last one to be written
        return
    with open_teacher("scenes") as teacher:
        done = annotate_to(
            staged,
            RecordFile(folder / "questions"),
            teacher,
            on_progress=lambda progress: on_progress("annotating", progress.done, questions),
        )
    if done.summary.records != questions:
        raise DataError(f"{staged} has {done.summary.records:,} of {questions:,} records: {done.why}")
    lines = (json.dumps(to_json(shuffle_stages(record))) + "\n" for record in RecordFile(staged))
    write_whole(shuffled, "".join(lines))


def shuffle_stages(record: Record) -> Record:
    """Return the record with the stages of its responses in a wrong order, drawn by its id.

    Nothing else changes: the answer is in the conclusion, wherever that stands.
    """
    fmt = StageFormat(random.Random(record.id).choice(_ORDERS), LLAVA_COT.final)
    turns = (
        replace(turn, response=turn.response and render(parse(turn.response).stages, fmt))
        for turn in record.turns
    )
    return replace(record, turns=tuple(turns))


def _staged(folder: Path) -> Path:
    return folder / "annotated"
