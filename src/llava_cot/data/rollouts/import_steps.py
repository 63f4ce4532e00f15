"""Published answers with labeled steps, in the layouts of PRM800K and VisualPRM400K, as a file of rollouts.

PRM800K (https://github.com/openai/prm800k, README.md, "Data"): a line is one labeled solution. `question` has
`problem`, `ground_truth_answer` and, in phase 2, the whole solution (`pre_generated_steps`,
`pre_generated_answer`); `label` has `finish_reason` and `steps`, each with `completions` (`text`, and a
`rating` of -1, 0 or 1), the index of the `chosen_completion`, or a `human_completion`. A step that is not
wrong (0 or 1) has the value 1 here, and a wrong one 0.

VisualPRM400K (https://huggingface.co/datasets/OpenGVLab/VisualPRM400K-v1.1-Raw, README.md, "Data fields"): a
line is one sampled `response` with `image` (a path, or several), `question` (as it was sent, with an
instruction), `question_orig` (without), `answer`, and `steps_with_score`: each `step`, and its `score`, the
share of right ones among completions. InternVL's scripts (internvl_chat/tools/reasoning_data_pipeline), which
made them, split a response at empty lines and take it as right if the score of its last step is above 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llava_cot.core.answer_matching import agrees
from llava_cot.core.files import (
    LINE_BYTES,
    bounded_lines,
    check_new_folder,
    home_path,
    path_inside,
    unique_keys,
    write_whole,
)
from llava_cot.data.annotation.output import place_in_set
from llava_cot.data.record import (
    Picture,
    as_list,
    digest,
    object_field,
    objects_field,
    text_field,
)
from llava_cot.data.rollouts.rollout_card import RolloutSummary, rollout_card
from llava_cot.data.rollouts.rollout_file import ROLLOUT_FILE, QuestionRollouts, Rollout, write_rollouts
from llava_cot.data.rollouts.rollout_writer import balance
from llava_cot.data.sources.chats import place_marks
from llava_cot.errors import DataError

_Line = Mapping[str, Any]


class _LeftOut(Exception):
    """Why a line is left out; not an error."""


@dataclass(frozen=True)
class LabeledAnswer:
    """One answer with labeled steps, and the question that it answers."""

    question: str
    answer: str
    rollout: Rollout
    images: tuple[str, ...] = ()


def import_rollouts(
    source: str | Path,
    folder: Path,
    *,
    images: str | Path | None = None,
    balanced: bool = False,
    on_progress: Callable[[int], None] = lambda lines: None,
) -> RolloutSummary:
    """Write a folder of rollouts from a file of answers with labeled steps, or all `.jsonl` of a folder.

    The answers to one question about the same pictures become one line. Lines are read twice, so that memory
    holds their places only.

    Args:
        source: The file or folder.
        folder: A new or empty folder.
        images: The folder in which the paths of pictures begin; by default that of the file, or the one
            above its folder `annotations`.
        balanced: As for `make_rollouts`.
        on_progress: Called with the number of lines read.

    Raises:
        DataError, OSError: A file has another layout, or cannot be read or written.
    """
    files = _files(home_path(source))
    check_new_folder(folder)
    summary, places, count = RolloutSummary(), dict[bytes, list[tuple[Path, int, int]]](), 0
    for file in files:
        for number, offset, line in _lines(file):
            count += 1
            on_progress(count)
            try:
                found = _parsed(file, number, line)
            except _LeftOut as reason:
                summary.left_out[str(reason)] += 1
                continue
            key = digest(found.question, *found.images)
            places.setdefault(key, []).append((file, number, offset))
    folder.mkdir(parents=True, exist_ok=True)

    def questions() -> Iterator[QuestionRollouts]:
        for key, where in places.items():
            answers = [
                _parsed(file, number, _line_at(file, number, offset)) for file, number, offset in where
            ]
            try:
                placed = _place(answers[0].images, where[0][0], images, folder)
            except _LeftOut as reason:
                summary.left_out[str(reason)] += len(answers)
                continue
            question = _question(f"{where[0][0].stem}-{key.hex()[:12]}", answers, placed)
            summary.add(question, "", "")
            written = balance(question) if balanced else question
            if written is None:
                summary.unbalanced += 1
            else:
                summary.written += len(written.samples)
                yield written

    write_rollouts(folder / ROLLOUT_FILE, questions())
    write_whole(folder / "README.md", rollout_card(summary, {"imported": Path(source).name}, None))
    return summary


def _files(source: Path) -> list[Path]:
    files = sorted(source.glob("*.jsonl")) if source.is_dir() else [source]
    if not files or not files[0].is_file():
        raise DataError(f"there is no {'*.jsonl in ' if source.is_dir() else ''}{source} to import")
    return files


def _lines(file: Path) -> Iterator[tuple[int, int, _Line]]:
    """The number of each line of a file, where it begins, and its object."""
    offset = 0
    with file.open("rb") as lines:
        for number, (data, length) in enumerate(bounded_lines(lines), 1):
            if data.strip():
                yield number, offset, _object(file, number, data, length)
            offset += length


def _line_at(file: Path, number: int, offset: int) -> _Line:
    with file.open("rb") as lines:
        lines.seek(offset)
        return _object(file, number, *next(bounded_lines(lines)))


def _object(file: Path, number: int, data: bytes, length: int) -> _Line:
    try:
        if length > LINE_BYTES:
            raise ValueError(f"it has more than {LINE_BYTES / 1e6:.0f} MB")
        value = json.loads(data, object_pairs_hook=unique_keys)
        if not isinstance(value, dict):
            raise ValueError("it is no object in braces")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}, line {number}: {error}") from None
    return value


def _parsed(file: Path, number: int, line: _Line) -> LabeledAnswer:
    """The answer in a line. Raises DataError with its place, and _LeftOut."""
    try:
        if "steps_with_score" in line:
            return read_visualprm(line)
        if "label" in line and "question" in line:
            return read_prm800k(line)
        raise DataError(
            "it has neither `steps_with_score`, as VisualPRM400K (its raw version), nor `question` and "
            "`label`, as PRM800K"
        )
    except ValueError as error:
        raise DataError(f"{file}, line {number}: {error}") from None


def read_prm800k(line: _Line) -> LabeledAnswer:
    """The solution in a line of PRM800K: the one that was generated before, or else the chosen steps.

    Raises DataError, and _LeftOut for a solution without an end.
    """
    question, label = object_field(line, "question"), object_field(line, "label")
    answer = text_field(question, "ground_truth_answer", "question.", None)
    if answer is None:
        raise _LeftOut("no standard answer")
    labels = [_rated(step) for step in objects_field(label, "steps", "label.")]
    generated = _texts(question, "pre_generated_steps", "question.")
    finished = label.get("finish_reason") == "solution"
    if generated:
        texts = generated
        given = text_field(question, "pre_generated_answer", "question.", "")
        agreed = agrees(given, answer) if given else None
        right = finished if agreed is None else agreed
        values = [ratings.get(text) for text, (_, ratings) in zip(texts, labels, strict=False)]
    elif finished and all(chosen is not None for chosen, _ in labels):
        texts, right = [chosen or "" for chosen, _ in labels], True
        values = [ratings.get(text) for text, (_, ratings) in zip(texts, labels, strict=True)]
    else:
        raise _LeftOut("a solution without an end")
    rollout = _rollout(texts, values, "\n", right)
    return LabeledAnswer(text_field(question, "problem", "question."), answer, rollout)


def _texts(line: _Line, name: str, at: str) -> list[str]:
    """A field that holds a list of texts; empty where it is absent. Raises DataError."""
    value = line.get(name) or []
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise DataError(f"`{at}{name}` is no list of texts")
    return value


def _rated(step: _Line) -> tuple[str | None, dict[str, float]]:
    """The chosen text of a step, and the values of its texts."""
    completions = objects_field(step, "completions", "label.steps.") if step.get("completions") else []
    human = step.get("human_completion")
    texts = [text_field(one, "text", "label.steps.completions.") for one in completions]
    values = {
        text: float(one["rating"] >= 0)
        for text, one in zip(texts, completions, strict=True)
        if isinstance(one.get("rating"), int)
    }
    if human is not None:
        at = "label.steps.human_completion"
        if not isinstance(human, Mapping):
            raise DataError(f"`{at}` is no object")
        values.setdefault(text := text_field(human, "text", f"{at}."), 1.0)
    chosen = step.get("chosen_completion")
    if isinstance(chosen, int) and 0 <= chosen < len(texts):
        return texts[chosen], values
    return (text if human is not None else None), values


def read_visualprm(line: _Line) -> LabeledAnswer:
    """The response in a line of VisualPRM400K's raw version. Raises DataError and _LeftOut."""
    images = tuple(as_list(line.get("image")))
    if not all(isinstance(image, str) for image in images):
        raise DataError("`image` is neither a path nor a list of paths")
    steps = objects_field(line, "steps_with_score", "")
    if not steps:
        raise _LeftOut("no steps")
    texts = [text_field(step, "step", "steps_with_score.", "") for step in steps]
    scores = [step.get("score") for step in steps]
    if not all(isinstance(score, int | float) and 0 <= score <= 1 for score in scores):
        raise DataError("a `score` in `steps_with_score` is no share from 0 to 1")
    written = text_field(line, "question_orig", "", None) or text_field(line, "question", "")
    try:
        question, _ = place_marks(written, (), len(images))
    except DataError:
        raise _LeftOut("other marks of pictures (<image>) than pictures") from None
    rollout = _rollout(texts, scores, "\n\n", bool(scores[-1]))
    return LabeledAnswer(question, text_field(line, "answer", ""), rollout, images)


def _rollout(texts: Sequence[str], values: Sequence[float | None], gap: str, right: bool) -> Rollout:
    """Steps as one text, with the values at their ends that are known."""
    ends, at = [], 0
    for text in texts:
        ends.append(at + len(text))
        at = ends[-1] + len(gap)
    steps = tuple((end, value) for end, value in zip(ends, values, strict=False) if value is not None and end)
    return Rollout(gap.join(texts), right, steps=steps)


def _question(id: str, answers: Sequence[LabeledAnswer], images: tuple[str, ...]) -> QuestionRollouts:
    """The answers to one question; of those with the same text, the first one's labels stay."""
    distinct: dict[str, Rollout] = {}
    for answer in answers:
        known = distinct.get(answer.rollout.text)
        distinct[answer.rollout.text] = (
            answer.rollout if known is None else replace(known, times=known.times + 1)
        )
    first = answers[0]
    return QuestionRollouts(id, first.question, first.answer, tuple(distinct.values()), images=images)


def _place(names: Sequence[str], file: Path, images: str | Path | None, folder: Path) -> tuple[str, ...]:
    """Put pictures into the folder and return their names there. Raises _LeftOut if one is missing."""
    above = file.parent.parent if file.parent.name == "annotations" else file.parent
    root = above if images is None else home_path(images)
    placed = []
    for name in names:
        # As published, a path begins with the data set's name, and its pictures lie in a folder `images`.
        rest = name.partition("/")[2] or name
        try:
            paths = [path_inside(root, one) for one in (name, rest, f"images/{name}", f"images/{rest}")]
        except DataError:
            raise _LeftOut("a picture outside of the folder of pictures") from None
        found = next((path for path in paths if path.is_file()), None)
        if found is None:
            raise _LeftOut("a picture that is not there (--images names the folder)")
        placed.append(place_in_set(Picture(name, found), folder).name)
    return tuple(placed)
