"""What a judge is: two candidates in, a preference out; or one candidate in, a score out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from llava_cot.core.plugins import Registry
from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT, SENTENCE, StageFormat, parse, validate
from llava_cot.core.trace import Candidate, Usage
from llava_cot.errors import ModelError
from llava_cot.models.base import Continuation, Model, RewardModel, Sampling, StepScores
from llava_cot.search.judge_prompts import JudgePrompts, default_prompts


@dataclass(frozen=True)
class Preference:
    """The result of a duel.

    Attributes:
        choice: 1 for `a`, 2 for `b`, None if the judge chose neither.
        reply: The judge's words, if it has any.
        scores: Its scores of `a` and `b`, if it has any.
        usage: The cost.
    """

    choice: Literal[1, 2] | None
    reply: str = ""
    scores: tuple[float, float] | None = None
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Opinion:
    """The result of a check of one candidate; `correct` is None if there was no verdict."""

    correct: bool | None
    reply: str = ""
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class JudgeScore:
    """The score of one candidate: the higher, the better, in units of the judge's own."""

    value: float
    reply: str = ""
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class JudgeSetup:
    """What a judge is made from.

    Attributes:
        model: The model, or the reward model, that the judge uses; None for a judge that uses none.
        fmt: The stage format.
        sampling: How candidates are sampled.
        prompts: The wording of duels and checks.
        reference: The model that a judge with `reference` compares its model with.
        step_scores: How the scores of steps become one, for a judge with `steps`; None for its own way.
        likelihood_weight: How much such a judge adds of the reference's own log-probability.
    """

    model: Model | RewardModel | None = None
    fmt: StageFormat = LLAVA_COT
    sampling: Sampling = field(default_factory=Sampling)
    prompts: JudgePrompts = field(default_factory=default_prompts)
    reference: Model | None = None
    likelihood_weight: float = 0.0
    step_scores: StepScores | None = None


class Judge:
    """Prefers one candidate to another. A subclass defines `prefer`, or `score`, from which `prefer` follows.

    A judge keeps no state between calls, which may run concurrently. In all calls, `stage` names what is
    searched (a stage, "answer" or "sentence"), `context` is the text of the answer before the candidates, and
    `seed` settles whatever is random in the judge.

    Attributes:
        name: Its name on the command line and in traces; set by `@judge`.
        model_name: The name of the model that it uses; None if it uses none.
        probability: Its scores of whole answers are probabilities, and can be added up as votes.
    """

    name: str = ""
    model_name: str | None = None
    probability: bool = False

    def __init__(self, setup: JudgeSetup | None = None) -> None:
        self.setup = setup or JudgeSetup()
        if self.setup.model is not None:
            self.model_name = self.setup.model.name
            if self.setup.step_scores is not None:  # a calibration is for one way
                self.model_name += f" ({self.setup.step_scores} of steps)"

    @property
    def model(self) -> Model:
        """The model of a judge that is declared with `uses="model"`."""
        return self.setup.model  # type: ignore[return-value]

    @property
    def can_score(self) -> bool:
        """Whether it defines `score`."""
        return getattr(self.score, "__func__", None) is not Judge.score

    async def check(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> Opinion | None:
        """Look at one candidate alone, before it is compared; None if this judge does not at this stage.

        Raises:
            ModelError: The model cannot do it.
        """
        return None

    async def prefer(
        self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
    ) -> Preference:
        """Compare `a`, shown as response 1, with `b`, shown as response 2: by default, by their scores.

        Raises:
            ModelError: The model cannot do it.
        """
        x, y = await asyncio.gather(
            *(self.score(question, stage, context, side, seed=seed) for side in (a, b))
        )
        return by_scores(x, y)

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        """Score one candidate by itself.

        Raises:
            ModelError: The judge only compares, or the model cannot do it.
        """
        raise ModelError(f"the judge {self.name} only compares candidates; choose a judge that gives scores")


@dataclass(frozen=True)
class JudgeType:
    """A judge's class `make`, and what it declares; the other attributes are arguments of `judge`."""

    name: str
    make: Callable[[JudgeSetup], Judge]
    uses: Literal["model", "reward model", "nothing"] = "nothing"
    scores: bool = False
    probability: bool = False
    prompted: bool = False
    logprobs: bool = False
    reference: bool = False
    steps: bool = False


JUDGES: Registry[JudgeType] = Registry(
    "llava_cot.judges",
    "judge",
    [
        f"llava_cot.search.judges.{module}"
        for module in (
            "self_judge",
            "logits",
            "likelihood",
            "implicit",
            "prm",
            "critic",
            "reward_judge",
            "rules",
            "verifier",
        )
    ],
    decorated=True,
)

J = TypeVar("J", bound=type[Judge])


def judge(
    name: str,
    *,
    uses: Literal["model", "reward model", "nothing"] = "nothing",
    scores: bool | None = None,
    probability: bool = False,
    prompted: bool = False,
    logprobs: bool = False,
    reference: bool = False,
    steps: bool = False,
) -> Callable[[J], J]:
    """Register a subclass of `Judge`.

    Args:
        name: Its name on the command line and in traces.
        uses: What it calls: "model" (the one that answers, unless --judge-model names another), "reward
            model" (which must be given) or "nothing".
        scores: It can score a candidate by itself; by default, whether the class defines `score`.
        probability: Its scores are probabilities of being right.
        prompted: Its prompts can be replaced by --judge-prompts.
        logprobs: It needs log-probabilities of the model that it calls, or, if it calls none, of the one that
            answers.
        reference: It compares its model with another one, the reference, by the log-probabilities of whole
            texts. Either is the model that answers unless it is given (--judge-model, --reference).
        steps: Its scores are made of those of steps, as --step-scores says.

    Raises:
        ValueError: There is another judge of this name, or this class is another judge.
        TypeError: It is no subclass of `Judge`, or defines neither `prefer` nor `score`.
    """

    def register(cls: J) -> J:
        if not (isinstance(cls, type) and issubclass(cls, Judge)):
            raise TypeError(f"the judge {name} must be a subclass of Judge")
        if cls.prefer is Judge.prefer and cls.score is Judge.score:
            raise TypeError(f"the judge {name} must define prefer or score")
        if cls.__dict__.get("name") not in (None, name):
            raise ValueError(
                f"{cls.__name__} is already the judge {cls.name!r}; give {name!r} a subclass of its own"
            )
        cls.name, cls.probability = name, probability
        can_score = cls.score is not Judge.score if scores is None else scores
        declared = JudgeType(name, cls, uses, can_score, probability, prompted, logprobs, reference, steps)
        JUDGES.add(name, declared, cls.__module__)
        return cls

    return register


def by_scores(x: JudgeScore, y: JudgeScore) -> Preference:
    """The preference for the higher of two scores, of responses 1 and 2."""
    return Preference(
        None if x.value == y.value else 1 if x.value > y.value else 2,
        f"Response 1: {x.reply}\nResponse 2: {y.reply}" if x.reply or y.reply else "",
        (x.value, y.value),
        x.usage + y.usage,
    )


def share(x: float, y: float) -> float:
    """exp(x) / (exp(x) + exp(y)), a half if neither is possible; the two shares add up to 1 exactly."""
    if x == y:
        return 0.5
    return 1 / (1 + math.exp(y - x)) if x > y else 1 - share(y, x)


def shown(candidate: str, stage: str, fmt: StageFormat) -> str:
    """The part of a candidate's text that a judge sees: without tags if it is this stage and nothing else."""
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
    """The cost of one sampled reply."""
    return Usage(
        prompt_tokens=continuation.prompt_tokens,
        completion_tokens=continuation.completion_tokens,
        model_calls=1,
        usd=continuation.usd,
    )
