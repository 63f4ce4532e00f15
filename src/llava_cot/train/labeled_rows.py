"""The records of a recipe's data with their labels: of files of records, of rollouts, of preference pairs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from llava_cot.core.files import bounded_lines, check_regular, home_path
from llava_cot.core.stages import LLAVA_COT, last_closed
from llava_cot.data.preferences.pair_file import PAIR_FILE, AnswerPair, read_pairs
from llava_cot.data.reading import RecordFile
from llava_cot.data.record import Record, Turn, digest, pictures_until
from llava_cot.data.rollouts.duel_set import why_not
from llava_cot.data.rollouts.rollout_file import ROLLOUT_FILE, QuestionRollouts, Rollout, read_rollouts
from llava_cot.errors import DataError
from llava_cot.models.local.reward_head import step_bounds
from llava_cot.train.recipe import Objective, StepLabels, TrainData, TrainRecipe

_Kind = Literal["records", "rollouts", "preferences"]
_Labeled = tuple[Record, "RowLabel"]
# The kinds of data that an objective takes, the one first that is looked for first in a folder.
_KINDS: dict[Objective, tuple[_Kind, ...]] = {
    "sft": ("records", "rollouts"),
    "implicit": ("rollouts",),
    "reward": ("rollouts",),
    "dpo": ("preferences", "rollouts"),
    "grpo": ("records",),
}
_FILES: dict[_Kind, tuple[str, ...]] = {
    "records": ("train.jsonl", "questions.jsonl"),
    "rollouts": (ROLLOUT_FILE,),
    "preferences": (PAIR_FILE,),
}
_WRITERS = {"rollouts": "data rollouts", "preferences": "data preferences"}


@dataclass(frozen=True)
class RowLabel:
    """What is known of a row besides its text.

    Attributes:
        question: The name of its question, by which rows are held out.
        right: Whether the answer is right, or the preferred one; None where that does not matter.
        pair: The name of its pair, if it is compared with one other answer, not with all to its question.
        prefix: The text that begins the answer and was not chosen with it, so that it is not learned.
        steps: For a scalar head, the steps of the answer: start and end in characters, and the value.
        unfinished: Whether the answer stops after a stage that is not the last: no end is learned then.
    """

    question: str
    right: bool | None = None
    pair: str = ""
    prefix: str = ""
    unfinished: bool = False
    steps: tuple[tuple[int, int, float], ...] = ()


def read_labeled(
    recipe: TrainRecipe, data: Sequence[TrainData]
) -> tuple[list[Record], list[RowLabel], list[float]]:
    """The records of some data of a recipe, their labels, and how often each comes in an epoch.

    Of rollouts, `sft` takes the right answers; of records, `grpo` takes the first questions alone. The
    answers to one question may be in several files. Raises DataError if a file cannot be read, or the
    objective does not take it.
    """
    files = [_find(part.path, recipe.objective) for part in data]  # each is there before one is read
    same = _SameQuestions(recipe.reward_settings.labels if recipe.objective == "reward" else None)
    records, labels, repeats = [], [], []
    for part, (kind, file) in zip(data, files, strict=True):
        found: Iterator[_Labeled]
        if kind == "rollouts":
            found = (
                one
                for question in read_rollouts(file)
                for one in same.new_answers(question, file)
                if one[1].right or recipe.objective != "sft"
            )
        elif kind == "preferences":
            found = (one for n, pair in enumerate(read_pairs(file), 1) for one in _pair(pair, file, n))
        else:
            read = _first_question if recipe.objective == "grpo" else lambda record: record
            found = ((read(record), RowLabel(record.id)) for record in RecordFile(file))
        for record, label in found:
            records.append(record)
            labels.append(label)
            repeats.append(part.repeat)
    return records, labels, repeats


def _find(path: str, objective: Objective) -> tuple[_Kind, Path]:
    """The kind and the file of some data."""
    place, kinds = home_path(path), _KINDS[objective]
    if place.is_dir():
        for kind in kinds:
            for name in _FILES[kind]:
                if (place / name).is_file():
                    return kind, place / name
    elif place.exists():
        kind = _kind_of(place)
        if kind in kinds:
            return kind, place
    if kinds[0] == "records":
        return "records", RecordFile(path).file  # which says what is missing
    wanted = " or ".join(f"{_FILES[kind][0]} (`llava-cot {_WRITERS[kind]}` writes it)" for kind in kinds)
    raise DataError(f"objective: {objective} needs {wanted}, and there is none at {place}")


def _kind_of(file: Path) -> _Kind:
    """The kind of a file, by the fields of its first line."""
    check_regular(file)
    with file.open("rb") as lines:
        first = next((line for line, _ in bounded_lines(lines) if line.strip()), b"")
    try:
        fields = json.loads(first)
    except (ValueError, RecursionError):
        return "records"
    named = fields.keys() if isinstance(fields, dict) else ()
    return "rollouts" if "samples" in named else "preferences" if "chosen" in named else "records"


class _SameQuestions:
    """The answers of rollouts that no earlier file has."""

    def __init__(self, labels: StepLabels | None) -> None:
        self._labels = labels
        self._known: dict[str, tuple[object, Path]] = {}
        self._texts: set[tuple[str, str]] = set()

    def new_answers(self, question: QuestionRollouts, file: Path) -> Iterator[_Labeled]:
        """Raises DataError if an earlier file has another question of this id."""
        prompt = question.prompt_text, len(question.images)
        first, where = self._known.setdefault(question.id, (prompt, file))
        if first != prompt:
            raise DataError(
                f"the question {question.id!r} of {file} is another one than that of {where}; give each "
                "question an id of its own"
            )
        pictures = question.pictures(file.parent)
        for sample in question.samples:
            if (question.id, sample.text) not in self._texts:
                self._texts.add((question.id, sample.text))
                turn = Turn(question.question, question.answer, question.options, response=sample.text)
                name = f"{question.id}/{digest(sample.text, size=4).hex()}"
                yield (
                    Record(name, (turn,), pictures, "rollouts"),
                    RowLabel(question.id, sample.right, steps=self._steps(sample, file)),
                )

    def _steps(self, sample: Rollout, file: Path) -> tuple[tuple[int, int, float], ...]:
        """The steps that are learned: all of them with the outcome, or those with values of their own."""
        if self._labels is None:
            return ()
        outcome, bounds = float(sample.right), step_bounds(sample.text)
        if self._labels == "outcome":
            return tuple((start, end, outcome) for start, end in bounds)
        known = dict(sample.step_values())
        if not known:
            raise DataError(
                f"an answer in {file} has no values of its stages; make them with `data rollouts "
                "--completions`, or set reward.labels to outcome"
            )
        last = bounds[-1][1] if bounds else 0
        values = {end: known.get(end, outcome if end == last else None) for _, end in bounds}
        return tuple((start, end, value) for start, end in bounds if (value := values[end]) is not None)


def _first_question(record: Record) -> Record:
    """A record's first question, with the reference answer if answers can be compared with it."""
    turn = record.turns[0]
    question = Turn(turn.question, None if why_not(record) else turn.answer, turn.options)
    return replace(record, turns=(question,), pictures=record.pictures[: pictures_until(record, 0)])


def _pair(pair: AnswerPair, file: Path, number: int) -> Iterator[_Labeled]:
    """The two answers of a pair."""
    pictures, question = pair.pictures(file.parent), pair.prompt[0].content
    for name, message in (("chosen", pair.chosen[0]), ("rejected", pair.rejected[0])):
        closed = last_closed(message.content)
        label = RowLabel(
            pair.id,
            name == "chosen",
            pair=f"{file}/{number}",
            prefix=pair.prefix,
            unfinished=closed not in (None, len(LLAVA_COT.stages) - 1),
        )
        turn = Turn(question, response=message.content)
        yield Record(f"{pair.id}/{number}/{name}", (turn,), pictures, "preferences"), label
