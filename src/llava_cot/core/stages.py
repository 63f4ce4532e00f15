"""The stage format: its tags, and parsing, writing and checking text in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from llava_cot.core.tags import Pairs, Span, Tag, choose, find_spans, find_tags, inner_text

_NAME = re.compile(r"[a-z][a-z0-9_-]*")

# The name of a step of sentence-beam in traces and judge prompts. (A whole answer is named "answer", which
# may be a stage's name too: the two are judged and shown alike.)
SENTENCE = "sentence"

# Who puts the tags: the model, which was trained on them, or we, who prompt it for each stage.
StagesChoice = Literal["auto", "trained", "prompted"]
STAGES_HELP = (
    "trained if the model writes the stages by itself, prompted to ask it for each, auto (the default) to "
    "find out."
)

Kind = Literal["absent", "unopened", "unclosed", "empty", "repeated", "order", "nested", "outside", "case"]


@dataclass(frozen=True)
class Stage:
    """One part of an answer.

    Attributes:
        name: Its name.
        open: Its opening tag.
        close: Its closing tag.
        purpose: What belongs in it, for models that are prompted for it; "" says no more than the name.
        criterion: What a judge goes by between two texts of it; "" for the judge prompts' own.
    """

    name: str
    open: str
    close: str
    purpose: str = field(default="", compare=False)
    criterion: str = field(default="", compare=False)


@dataclass(frozen=True)
class StageFormat:
    """The stages of an answer in order, each with its tags.

    Attributes:
        stages: The stages, with distinct lower-case names other than "sentence". Their tags are non-empty,
            without white space at their ends (a model drops it when it stops at a tag), and none is part of
            another, in any case.
        final: The name of the stage that holds the answer; by default the last.
        thinking: The first of its two stages is the thinking that a model does by itself, in these tags, and
            the second what it writes after it, which has no tags until we put them.

    Raises:
        ValueError: A name or a tag breaks these rules.
    """

    stages: tuple[Stage, ...]
    final: str = ""
    thinking: bool = False

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("a stage format needs at least one stage")
        for stage in self.stages:
            _check_stage(stage)
        for name in self.names:
            if self.names.count(name) > 1:
                raise ValueError(f"the stage format names the stage {name!r} twice; give each its own name")
        tags = [tag.casefold() for stage in self.stages for tag in (stage.open, stage.close)]
        for i, tag in enumerate(tags):
            for j, other in enumerate(tags):
                if i != j and tag in other:
                    raise ValueError(
                        f"the tag {tag!r} is part of the tag {other!r} (in any case), "
                        "so they cannot be told apart; choose other tags"
                    )
        if not self.final:
            object.__setattr__(self, "final", self.names[-1])
        self.stage(self.final)
        if self.thinking and (len(self.stages) != 2 or self.final != self.names[1]):
            raise ValueError("a stage format of thinking has two stages, the thinking and the answer")

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(stage.name for stage in self.stages)

    @cached_property
    def opening_tags(self) -> tuple[str, ...]:
        return tuple(stage.open for stage in self.stages)

    @cached_property
    def closing_tags(self) -> tuple[str, ...]:
        return tuple(stage.close for stage in self.stages)

    @cached_property
    def pairs(self) -> Pairs:
        return tuple((stage.open, stage.close) for stage in self.stages)

    def stage(self, name: str) -> Stage:
        """The stage of this name. Raises ValueError if there is none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise ValueError(f"the stage format has no stage {name!r}; it has {', '.join(self.names)}")


def _check_stage(stage: Stage) -> None:
    if not _NAME.fullmatch(stage.name):
        raise ValueError(
            f"{stage.name!r} is not a stage name; use lower-case letters, digits, - and _, a letter first"
        )
    if stage.name == SENTENCE:
        raise ValueError(
            f"a stage cannot be named {SENTENCE!r}, the name of a step of sentence-beam; "
            f"choose another name, as in 'line=<{SENTENCE}>'"
        )
    for tag in (stage.open, stage.close):
        if not tag or tag != tag.strip():
            raise ValueError(
                f"the tag {tag!r} of the stage {stage.name!r} is empty or has white space at an end; "
                "a tag begins and ends with a visible character"
            )


# The paper's four stages (arXiv 2411.10440, section 3.1), and what they are for, in our own wording.
_PAPER = {
    "summary": "how you will approach the question; nothing of the answer yet",
    "caption": "what the picture shows that matters to the question",
    "reasoning": "step by step, from what was said before, what leads to the answer",
    "conclusion": "",
}
LLAVA_COT = StageFormat(
    tuple(Stage(name, f"<{name.upper()}>", f"</{name.upper()}>", purpose) for name, purpose in _PAPER.items())
)


# What models with a thinking mode write by themselves (Qwen3-VL-Thinking, GLM-4.5V, InternVL3.5).
THINKING = StageFormat(
    (
        Stage("thinking", "<think>", "</think>", "step by step, what leads to the answer"),
        Stage("answer", "<answer>", "</answer>"),
    ),
    thinking=True,
)


def make_format(spec: str) -> StageFormat:
    """A format from words: stages in order, separated by commas; the last holds the answer.

    `think` has the tags `<think>` and `</think>`; `plan=<PLAN>` has `<PLAN>` and `</PLAN>`;
    `plan=[[plan ]]` has the two tags written, with a space between them. `thinking` alone is `THINKING`.
    Raises ValueError.
    """
    if spec.strip() == "thinking":
        return THINKING
    return StageFormat(tuple(_make_stage(item.strip()) for item in spec.split(",")))


def _make_stage(item: str) -> Stage:
    name, given, tags = (part.strip() for part in item.partition("="))
    if not given:
        return Stage(name.lower(), f"<{name}>", f"</{name}>")
    match tags.split():
        case [open, close]:
            return Stage(name.lower(), open, close)
        case [open] if re.fullmatch(r"<[^<>/]+>", open):
            return Stage(name.lower(), open, "</" + open[1:])
    raise ValueError(f"cannot read {item!r} in a stage format; write a name, name=<TAG>, or name=OPEN CLOSE")


@dataclass(frozen=True)
class Answer:
    """A parsed response."""

    stages: dict[str, str | None]  # the text of every stage of the format, in its order; None is absent
    text: str  # the response as it was written
    final: str = LLAVA_COT.final  # the name of the stage that holds the answer

    @property
    def conclusion(self) -> str | None:
        """The final stage's text, None where it is absent."""
        return self.stages.get(self.final)

    @property
    def answer(self) -> str | None:
        """The final stage's text, or the whole text if it has no stage at all.

        None if the final stage is absent or empty.
        """
        if any(text is not None for text in self.stages.values()):
            return self.conclusion or None
        return self.text.strip() or None


@dataclass(frozen=True)
class Departure:
    """One way in which a text departs from its format; `detail` says it in words."""

    kind: Kind
    stage: str | None
    detail: str


def parse(text: str, fmt: StageFormat = LLAVA_COT) -> Answer:
    """Read the stages of a text, well-formed or not. Never raises; takes linear time.

    - White space at the ends of a stage is dropped; tags are read in any case; text outside is skipped.
    - A stage left open runs to the next opening tag of another stage, or to the end; a closing tag
      that the end of the text cuts off is dropped.
    - A tag inside a stage that is properly closed further on is a mention, and stays in its text. A
      whole stage inside another counts where there is none outside; it is then taken out of the outer
      text.
    - A closing tag without an opening tag closes the text since the stage before it, if its stage is
      found nowhere else.
    - Of a repeated stage, the last complete one with text in it wins: models repeat the format before
      they use it and correct themselves afterwards, and published scores were taken from the last
      conclusion. One that is cut off never replaces a complete one.
    """
    spans = find_spans(text, fmt.pairs, find_tags(text, fmt.pairs))
    chosen = choose(text, spans)
    stages = {
        name: inner_text(text, chosen[i], chosen) if i in chosen else None for i, name in enumerate(fmt.names)
    }
    return Answer(stages, text, fmt.final)


def render(answer: Answer | Mapping[str, str | None], fmt: StageFormat = LLAVA_COT) -> str:
    """Write stages in the format's order, as the paper's data does; None and missing ones are left out.

    White space at the ends of a text is dropped. Apart from that, and so for every answer that came
    from `parse`, `parse(render(answer, fmt), fmt).stages == answer.stages`. Raises ValueError where
    that cannot be: a text with a tag of the format in it, a stage that the format does not have.
    """
    given = answer.stages if isinstance(answer, Answer) else answer
    stages = dict.fromkeys(fmt.names) | {fmt.stage(name).name: text for name, text in given.items()}
    parts = []
    for stage in fmt.stages:
        text = stages[stage.name]
        if text is None:
            continue
        for tag in find_tags(text, fmt.pairs):
            raise ValueError(
                f"the text of the stage {stage.name!r} contains the tag {text[tag.start : tag.end]!r}, "
                "so it could not be read back; take the tag out"
            )
        stages[stage.name] = text.strip()
        parts.append(f"{stage.open} {text.strip()} {stage.close}")
    written = "\n\n".join(parts)
    if parse(written, fmt).stages != stages:
        raise ValueError(f"the stages cannot be told apart once they are written: {written[:200]!r}")
    return written


def without_tags(text: str, fmt: StageFormat, gap: str = "") -> str:
    """The text with the format's tags replaced by `gap`, without white space at its ends."""
    while tags := find_tags(text, fmt.pairs):  # what stood around a tag may make up another one
        for tag in reversed(tags):
            text = text[: tag.start] + gap + text[tag.end :]
    return text.strip()


def last_closed(text: str, fmt: StageFormat = LLAVA_COT) -> int | None:
    """Index of the last stage, in the format's order, whose closing tag occurs in the text (any case).

    What a model thinks may name any tag: with a format of thinking, tags count from the end of the thinking.
    """
    closed = [tag.stage for tag in find_tags(text, fmt.pairs) if not tag.opens]
    if fmt.thinking:
        closed = closed[closed.index(0) :] if 0 in closed else []
    return max(closed, default=None)


def next_stage(at: int, text: str, finish: str, fmt: StageFormat) -> int:
    """The index of the stage after a candidate for stage `at`; past the last one if it ends the answer.

    Args:
        at: The index of the stage that the candidate was sampled for.
        text: The candidate's text, which may close a later stage, or none.
        finish: "eos" if the model ended the answer.
        fmt: The stage format.
    """
    closed = last_closed(text, fmt)
    return len(fmt.stages) if finish == "eos" or closed is None else max(at, closed) + 1


def close_cut_stage(text: str, stage: str, fmt: StageFormat) -> str | None:
    """A text that was cut by the token limit, with its open stage closed; None if none is open.

    Of several open stages it is `stage`, or else the last one.
    """
    opened = [found.stage for found in validate(text, fmt) if found.kind == "unclosed"]
    if not opened:
        return None
    close = fmt.stage(stage if stage in opened else opened[-1] or stage).close
    return _without_part_of(close, text.rstrip()) + close


def _without_part_of(tag: str, text: str) -> str:
    """The text without the beginning of the tag at its end."""
    for length in range(len(tag) - 1, 0, -1):
        if text.lower().endswith(tag[:length].lower()):
            return text[:-length].rstrip()
    return text


def validate(text: str, fmt: StageFormat = LLAVA_COT) -> list[Departure]:
    """Every departure of a text from its format, in the order of the text; absent stages last.

    An empty list means: all stages once, in order, complete, not empty, with only white space between.
    """
    tags = find_tags(text, fmt.pairs)
    spans = find_spans(text, fmt.pairs, tags)
    found = [*_of_spans(text, spans, fmt), *_of_tags(text, tags, spans, fmt), *_outside(text, spans)]
    absent = sorted(set(range(len(fmt.names))) - set(choose(text, spans)))
    return [departure for _, departure in sorted(found, key=lambda item: item[0])] + [
        Departure("absent", fmt.names[i], f"there is no {fmt.names[i]}") for i in absent
    ]


_Found = Iterator[tuple[int, Departure]]


def _of_spans(text: str, spans: list[Span], fmt: StageFormat) -> _Found:
    seen: set[int] = set()
    furthest = -1
    for span in spans:
        name, stage = fmt.names[span.stage], fmt.stages[span.stage]
        if span.stage in seen:
            yield span.start, Departure("repeated", name, f"the {name} is there again")
        elif span.stage < furthest:
            yield span.start, Departure("order", name, f"the {name} comes after the {fmt.names[furthest]}")
        if not span.opened:
            yield span.start, Departure("unopened", name, f"{stage.close} has no {stage.open} before it")
        if not span.closed:
            yield span.start, Departure("unclosed", name, f"{stage.open} has no {stage.close} after it")
        if not text[slice(*span.inner)].strip():
            yield span.start, Departure("empty", name, f"the {name} has no text")
        seen.add(span.stage)
        furthest = max(furthest, span.stage)


def _of_tags(text: str, tags: list[Tag], spans: list[Span], fmt: StageFormat) -> _Found:
    k = 0
    for tag in tags:
        while k < len(spans) and spans[k].end <= tag.start:
            k += 1
        written, name = text[tag.start : tag.end], fmt.names[tag.stage]
        if k < len(spans) and spans[k].inner[0] <= tag.start < spans[k].inner[1]:
            outer = fmt.names[spans[k].stage]
            yield tag.start, Departure("nested", outer, f"{written} stands inside the {outer}")
        elif not tag.exact:
            stage = fmt.stages[tag.stage]
            right = stage.open if tag.opens else stage.close
            yield tag.start, Departure("case", name, f"{written} should be {right}")


def _outside(text: str, spans: list[Span]) -> _Found:
    start = 0
    for low, high in [*((span.start, span.end) for span in spans), (len(text), len(text))]:
        words = text[start:low].strip()
        if words:
            shown = words if len(words) <= 60 else words[:57] + "..."
            yield start, Departure("outside", None, f"there is text outside the stages: {shown!r}")
        start = high
