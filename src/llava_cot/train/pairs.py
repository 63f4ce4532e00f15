"""Reading a recipe's records with their labels, and which of them are in a batch together."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llava_cot.core.files import home_path
from llava_cot.data.reading import RecordFile
from llava_cot.data.record import Record, Turn, digest
from llava_cot.data.rollouts.rollout_file import read_rollouts, rollout_file
from llava_cot.errors import DataError
from llava_cot.train.recipe import TrainData, TrainRecipe

# A question whose answers are all right, or all wrong, gives no more of them than this.
_MOST_ALIKE = 2


@dataclass(frozen=True)
class RowLabel:
    """What is known of a row besides its text.

    Attributes:
        question: The name of its question, by which rows are held out and compared.
        right: Whether the answer is right; None where that does not matter.
    """

    question: str
    right: bool | None = None


def read_labeled(
    recipe: TrainRecipe, data: Sequence[TrainData]
) -> tuple[list[Record], list[RowLabel], list[float]]:
    """The records of some data of a recipe, their labels, and how often each comes in an epoch.

    Raises DataError if they cannot be read.
    """
    if recipe.objective == "implicit":
        found = list(_rollout_records(data))
    else:
        files = [RecordFile(part.path) for part in data]  # each is there before the first one is read
        found = [
            (record, RowLabel(record.id), part.repeat)
            for part, file in zip(data, files, strict=True)
            for record in file
        ]
    return [one[0] for one in found], [one[1] for one in found], [one[2] for one in found]


def _rollout_records(data: Sequence[TrainData]) -> Iterator[tuple[Record, RowLabel, float]]:
    """The distinct answers in files of rollouts; those to one question may be in several files."""
    known: dict[str, tuple[object, str]] = {}
    texts: set[tuple[str, str]] = set()
    for part in data:
        file = rollout_file(home_path(part.path))
        for question in read_rollouts(file):
            prompt = question.prompt_text, len(question.images)
            first, where = known.setdefault(question.id, (prompt, str(file)))
            if first != prompt:
                raise DataError(
                    f"the question {question.id!r} of {file} is another one than that of {where}; give each "
                    "question an id of its own"
                )
            pictures = question.pictures(file.parent)
            for sample in question.samples:
                if (question.id, sample.text) not in texts:
                    texts.add((question.id, sample.text))
                    turn = Turn(question.question, question.answer, question.options, response=sample.text)
                    name = f"{question.id}/{digest(sample.text, size=4).hex()}"
                    record = Record(name, (turn,), pictures, "rollouts")
                    yield record, RowLabel(question.id, sample.right), part.repeat


def make_units(recipe: TrainRecipe, labels: Sequence[RowLabel]) -> list[tuple[int, ...]]:
    """The numbers of the rows that are in one batch together: pairs, where answers are compared."""
    if recipe.objective == "sft":
        return [(i,) for i in range(len(labels))]
    settings = recipe.implicit_settings
    units = pair_units(labels, settings.pairs, recipe.seed)
    return units + (alike_units(labels, recipe.seed) if settings.loss == "ce" else [])


def is_pair(labels: Sequence[RowLabel], unit: Sequence[int]) -> bool:
    """Whether a unit is a pair of a right and a wrong answer."""
    return {labels[i].right for i in unit} == {True, False}


def pair_units(labels: Sequence[RowLabel], most: int, seed: int) -> list[tuple[int, ...]]:
    """Pairs of a right and a wrong answer to one question, in this order: `most` of a question at most.

    No pair comes twice; the answers of one kind are in equally many pairs of their question, or nearly so.
    """
    units: list[tuple[int, ...]] = []
    for right, wrong in _by_outcome(labels, seed):
        longer, shorter = (right, wrong) if len(right) >= len(wrong) else (wrong, right)
        for number in range(min(most, len(right) * len(wrong))):
            lap, at = divmod(number, len(longer))
            # Each lap goes on where the last one ended, or one further where that would repeat its pairs.
            shift = number - at + lap * math.gcd(len(longer), len(shorter)) // len(shorter)
            pair = longer[at], shorter[(at + shift) % len(shorter)]
            units.append(pair if longer is right else pair[::-1])
    return units


def alike_units(labels: Sequence[RowLabel], seed: int) -> list[tuple[int, ...]]:
    """Some answers of each question whose answers are all right, or all wrong."""
    groups = _by_outcome(labels, seed)
    return [tuple((right or wrong)[:_MOST_ALIKE]) for right, wrong in groups if not (right and wrong)]


def _by_outcome(labels: Sequence[RowLabel], seed: int) -> list[tuple[list[int], list[int]]]:
    """The numbers of each question's right rows and of its wrong ones, in random order."""
    groups: dict[str, tuple[list[int], list[int]]] = {}
    for number, label in enumerate(labels):
        groups.setdefault(label.question, ([], []))[not label.right].append(number)
    for question, rows in groups.items():
        rng = random.Random(f"{seed}/pairs/{question}")
        for one in rows:
            rng.shuffle(one)
    return list(groups.values())
