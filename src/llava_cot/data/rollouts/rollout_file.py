"""The file `rollouts.jsonl`: sampled answers of questions, which are right, and the values of their steps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import KW_ONLY, asdict, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, StrictBool, StrictInt, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass as validated

from llava_cot.core.files import json_lines, path_inside, whole
from llava_cot.core.question import Question, question_text
from llava_cot.core.stages import LLAVA_COT, StageFormat
from llava_cot.core.tags import choose, find_spans, find_tags
from llava_cot.data.record import Picture
from llava_cot.errors import DataError

ROLLOUT_FILE = "rollouts.jsonl"
_CHECKED = ConfigDict(extra="forbid", allow_inf_nan=False)
_Share = Annotated[float, Field(ge=0, le=1)]


@validated(frozen=True, config=_CHECKED)
class Rollout:
    """One of the distinct answers that were sampled for a question.

    Attributes:
        text: The whole answer as the model wrote it, with its tags.
        right: Whether its conclusion is the standard answer.
        times: How many of the samples have this text.
        logprob: The sum of the tokens' log-probabilities; None if it is not known.
        values: By stage, the share of right answers among completions of the text up to that stage's end;
            None if none were sampled. Stages whose value is not known are left out.
        steps: The values of the steps of an answer without stages, which was imported: pairs of the
            number of characters up to a step's end, and the value there.
    """

    text: str
    right: StrictBool
    _: KW_ONLY
    times: Annotated[StrictInt, Field(ge=1)] = 1
    logprob: float | None = None
    values: dict[str, _Share] | None = None
    steps: tuple[tuple[StrictInt, _Share], ...] | None = None

    @model_validator(mode="after")
    def _ends_in_order(self) -> Self:
        ends = [0, *(end for end, _ in self.steps or ())]
        if any(b <= a for a, b in pairwise(ends)) or ends[-1] > len(self.text):
            raise ValueError("the ends of steps must grow and lie within the text")
        return self

    def step_values(self, fmt: StageFormat = LLAVA_COT) -> list[tuple[int, float]]:
        """The known values in the order of the text, each with the end of its stage or step in characters."""
        if self.steps is not None:
            return list(self.steps)
        values, ends = self.values or {}, stage_ends(self.text, fmt)
        return sorted((end, values[stage]) for stage, end in ends.items() if stage in values)


@validated(frozen=True, config=_CHECKED)
class QuestionRollouts:
    """A question with its standard answer, and the distinct answers that were sampled for it.

    Attributes:
        id: Unique within its file.
        question: Without its options; pictures stand at its `PLACE`s, or before it.
        answer: The standard answer: an option's letter, if there are options.
        samples: Distinct answers, in the order in which they were first sampled.
        images: Names of its pictures: paths below the file's folder.
        options: In order, without letters.
        extra: What else is known of the question, such as its type.
    """

    id: Annotated[str, Field(min_length=1)]
    question: str
    answer: str
    samples: tuple[Rollout, ...]
    _: KW_ONLY
    images: tuple[str, ...] = ()
    options: Annotated[tuple[str, ...], Field(max_length=26)] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    @model_validator(mode="after")
    def _texts_are_distinct(self) -> Self:
        if len({sample.text for sample in self.samples}) < len(self.samples):
            raise ValueError("two samples have the same text; write it once, with their number as `times`")
        return self

    @property
    def prompt_text(self) -> str:
        """The question with its options, as a model gets it."""
        return question_text(Question(self.question, options=self.options))

    @property
    def mixed(self) -> bool:
        """Whether some samples are right and some wrong."""
        return len({sample.right for sample in self.samples}) == 2

    def pictures(self, folder: Path) -> tuple[Picture, ...]:
        """Its pictures, in the folder of its file. Raises DataError for a name that leads out of it."""
        return tuple(Picture(name, path_inside(folder, name)) for name in self.images)


_LINE = TypeAdapter(QuestionRollouts)


def stage_ends(text: str, fmt: StageFormat = LLAVA_COT) -> dict[str, int]:
    """The end of each closed stage of an answer, in characters with its closing tag, by its name."""
    spans = choose(text, find_spans(text, fmt.pairs, find_tags(text, fmt.pairs)))
    return {name: spans[i].end for i, name in enumerate(fmt.names) if i in spans and spans[i].closed}


def write_rollouts(file: Path, questions: Iterable[QuestionRollouts]) -> None:
    """Write a file of rollouts, whole or not at all. Raises OSError."""
    with whole(file) as part, part.open("wb") as lines:
        for question in questions:
            line = asdict(question)
            line["samples"] = [
                {key: value for key, value in sample.items() if value is not None or key == "logprob"}
                for sample in line["samples"]
            ]
            # Half of a surrogate pair, which no UTF-8 has, becomes "?".
            lines.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n")


def rollout_file(path: Path) -> Path:
    """The file of rollouts in a folder, or the file itself. Raises DataError."""
    file = path / ROLLOUT_FILE if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"there is no {file}; `llava-cot data rollouts` writes such a file")
    return file


def read_rollouts(path: Path) -> Iterator[QuestionRollouts]:
    """The questions of a file of rollouts, or of the one in a folder.

    Raises DataError, with the file and the line, for a line that is no question with rollouts, that names a
    picture outside of the file's folder, or that has an earlier one's id.
    """
    file, known = rollout_file(path), set[str]()

    def read(value: Any) -> QuestionRollouts:
        question = _LINE.validate_python(value)
        question.pictures(file.parent)
        if question.id in known:
            raise ValueError(f"an earlier line has its id, {question.id!r}; give each its own")
        known.add(question.id)
        return question

    return json_lines(file, read)
