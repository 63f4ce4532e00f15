"""Rollouts as one self-contained HTML page: questions, their sampled answers, and the values of the stages.

The data are untrusted: everything is escaped, texts and pictures are limited in size, and the page loads
nothing and runs no script but its own filter, which is allowed by its hash.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from llava_cot.core.stages import parse
from llava_cot.core.wording import plural
from llava_cot.data.reading import random_items
from llava_cot.data.rollouts.rollout_card import RolloutSummary
from llava_cot.data.rollouts.rollout_file import QuestionRollouts, Rollout, read_rollouts, rollout_file
from llava_cot.view.html import cut, inline, read_asset, stylesheet, template_environment
from llava_cot.view.records_page import MAX_TEXT, thumbnails


@dataclass(frozen=True)
class AnswerPart:
    """A stage or a step of an answer: its name, its text, and its value if that is known."""

    name: str
    text: str
    value: float | None


def rollouts_page(path: Path, count: int, seed: int = 0) -> str:
    """Render a page of up to `count` questions of a file of rollouts, chosen at random by the seed.

    Raises DataError for a file that holds something else.
    """
    file, summary = rollout_file(path), RolloutSummary()

    def questions() -> Iterator[QuestionRollouts]:
        for question in read_rollouts(file):
            summary.add(question, "", "")
            yield question

    chosen, _ = random_items(questions(), count, seed)
    environment = template_environment(
        lambda text: cut(text, MAX_TEXT),
        outcome=_outcome,
        parts=_parts,
        pictures=lambda question: thumbnails(question.pictures(file.parent)),
        plural=plural,
        right_option=_right_option,
    )
    return environment.get_template("rollouts.html.j2").render(
        name=file.parent.resolve().name,
        file=file.name,
        summary=summary,
        questions=chosen,
        outcomes=sorted({_outcome(question) for question in chosen}),
        kinds=sorted({str(question.extra["type"]) for question in chosen if question.extra.get("type")}),
        **inline(stylesheet() + read_asset("records.css"), read_asset("records.js")),
    )


def _outcome(question: QuestionRollouts) -> str:
    if question.mixed:
        return "right and wrong"
    right = {sample.right for sample in question.samples}
    return "no answers" if not right else "all right" if right == {True} else "all wrong"


def _parts(sample: Rollout) -> list[AnswerPart]:
    """The stages of an answer, or its labeled steps, or all of it."""
    if sample.steps is not None:
        starts = [0, *(end for end, _ in sample.steps)]
        parts = [
            AnswerPart(f"step {number}", sample.text[start:end].strip(), value)
            for number, (start, (end, value)) in enumerate(zip(starts, sample.steps, strict=False), 1)
        ]
        rest = sample.text[starts[-1] :].strip()
        return parts + ([AnswerPart("not labeled", rest, None)] if rest else [])
    stages = {name: text for name, text in parse(sample.text).stages.items() if text is not None}
    values = sample.values or {}
    if not stages:
        return [AnswerPart("answer", sample.text, None)]
    return [AnswerPart(name, text, values.get(name)) for name, text in stages.items()]


def _right_option(question: QuestionRollouts) -> int | None:
    """The index of the right option, if the standard answer is its letter."""
    places = {letter: i for i, letter in enumerate(ascii_uppercase[: len(question.options)])}
    return places.get(question.answer)
