"""What a judge is to the rest of the project: two candidates in, a preference out.

Owns the `Judge` protocol, the values that cross it, and how much of a candidate a judge is shown.
Knows no concrete model or method.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from llava_cot.core.question import Question
from llava_cot.core.stages import SENTENCE, StageFormat, parse, validate
from llava_cot.core.trace import Candidate, Usage
from llava_cot.errors import ModelError
from llava_cot.models.base import Continuation


@dataclass(frozen=True)
class Preference:
    """What a judge says of a duel. `choice` is 1 for `a`, 2 for `b`, None if it chose neither."""

    choice: Literal[1, 2] | None
    reply: str = ""
    scores: tuple[float, float] | None = None
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Opinion:
    """What a judge says of one candidate alone; `correct` is None if it gave no verdict."""

    correct: bool | None
    reply: str = ""
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Grade:
    """What a judge thinks of one candidate by itself: the higher, the better, in units of its own."""

    value: float
    reply: str = ""
    usage: Usage = field(default_factory=Usage)


class Judge(Protocol):
    """Whatever prefers one candidate to another. It keeps nothing between calls.

    `stage` names what is searched, `context` is the text of the answer before the candidates (their
    common prefix), `seed` settles whatever is random in the judge.
    """

    name: str
    model_name: str | None = None  # of the model that it asks; None if it asks none
    probability: bool = False  # whether its scores of whole answers are from 0 to 1, and add up as votes

    async def check(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> Opinion | None:
        """Look at one candidate alone; None if this judge does not at this stage. Raises ModelError."""
        return None

    async def prefer(
        self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
    ) -> Preference:
        """Compare `a`, shown as response 1, with `b`, shown as response 2. Raises ModelError."""
        ...

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> Grade:
        """Grade one candidate by itself; the judges that can are declared in `JUDGES`. Raises ModelError."""
        raise ModelError(f"the judge {self.name} compares, and gives no scores; choose another judge")


def shown(candidate: str, stage: str, fmt: StageFormat) -> str:
    """What a judge is shown of a candidate's text: no tags if that is this stage and nothing else."""
    stages = parse(candidate, fmt).stages
    inner = stages.get(stage)
    others = any(text is not None for name, text in stages.items() if name != stage)
    if inner is None or others or any(d.kind == "outside" for d in validate(candidate, fmt)):
        return candidate.strip()
    return inner


def earlier(stage: str, context: str, fmt: StageFormat) -> dict[str, str | None]:
    """The stages before this one, by name, or the answer so far for a sentence."""
    if stage in fmt.names:
        stages = parse(context, fmt).stages
        return {name: stages[name] for name in fmt.names[: fmt.names.index(stage)]}
    return {SENTENCE: context} if context.strip() else {}


def cost(continuation: Continuation) -> Usage:
    """What one sampled reply cost."""
    return Usage(
        prompt_tokens=continuation.prompt_tokens,
        completion_tokens=continuation.completion_tokens,
        model_calls=1,
        usd=continuation.usd,
    )
