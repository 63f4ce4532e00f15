"""What methods and judges may have besides the model: another model, examples, a calibration, prompts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from llava_cot.core.question import Question
from llava_cot.errors import ModelError
from llava_cot.models.base import Model, RewardModel, StepScores
from llava_cot.models.hardware import for_rewards
from llava_cot.search.calibration import Calibration, load_calibration
from llava_cot.search.judge_prompts import JudgePrompts, load_judge_prompts
from llava_cot.search.judges.base import JUDGES
from llava_cot.search.methods.base import METHODS, ResourceName

if TYPE_CHECKING:
    from llava_cot.search.request import Request

RESOURCE_NAMES: tuple[ResourceName, ...] = get_args(ResourceName)

# What each is, in messages.
DESCRIPTIONS: dict[ResourceName, str] = {
    "reasoner": "a second model that reasons",
    "judge_model": "a reward model",
    "reference": "a reference model",
    "likelihood_weight": "a weight of the likelihood",
    "step_scores": "a way to combine the scores of steps",
    "examples": "worked examples",
    "calibration": "a calibration, as `llava-cot judge calibrate` writes it",
    "judge_prompts": "a file of judge prompts",
}


@dataclass(frozen=True)
class Example:
    """A question and the answer that it should get, shown to the model before the question itself."""

    question: Question
    answer: str


@dataclass(frozen=True)
class Resources:
    """Resources that are ready to use; methods and judges use those that they declare.

    Attributes:
        reasoner: The model that reasons in `prism`.
        judge_model: The model that the judge uses in place of the answering one; a reward model for `reward`.
        examples: Shown by `cot-few-shot`.
        calibration: Gives the cut-off of `swires`; measured for one judge.
        judge_prompts: The wording of the judges that ask a model in words.
        reference: The model with which `implicit` compares the judge model, in place of the answering one.
        likelihood_weight: How much `implicit` adds of the reference's own log-probability.
        step_scores: How judges of steps make one score of those of all steps; None for their own way.
    """

    reasoner: Model | None = None
    judge_model: Model | RewardModel | None = None
    examples: tuple[Example, ...] = ()
    calibration: Calibration | None = None
    judge_prompts: JudgePrompts | None = None
    reference: Model | None = None
    likelihood_weight: float = 0.0
    step_scores: StepScores | None = None

    def has(self, name: ResourceName) -> bool:
        """Whether there is this resource; a judge model that gives no rewards is no required one."""
        if name == "judge_model":
            return isinstance(self.judge_model, RewardModel)
        return bool(getattr(self, name))

    @property
    def compares(self) -> bool:
        """Whether there is a second model for a judge that compares two."""
        return self.reference is not None or hasattr(self.judge_model, "sample")

    def fitting(self, method: str, judge: str | None) -> Resources:
        """The same without a calibration that was measured for another judge."""
        return replace(self, calibration=_fitting(self.calibration, method, judge))


class AnyResources(Resources):
    """Stands for resources that are not known yet: any may be among them."""

    @property
    def compares(self) -> bool:
        return True

    def has(self, name: ResourceName) -> bool:
        return True


@dataclass(frozen=True, eq=False)
class ResourceSpec:
    """Resources by name: the files are read, the models not yet opened.

    Attributes:
        reasoner: A model's name, as for `open_model`.
        judge_model: A model's name.
        judge_model_kind: Whether that is a reward model, a model, or either, to be found out.
        reference: A model's name.
        likelihood_weight, step_scores: As in `Resources`.
        model_options: Options of `open_model`, such as the device.
        opened: Models that are open, by name; one that is named twice is opened once.
    """

    reasoner: str | None = None
    judge_model: str | None = None
    judge_model_kind: Literal["reward", "model", "either"] = "model"
    examples: tuple[Example, ...] = ()
    calibration: Calibration | None = None
    judge_prompts: JudgePrompts | None = None
    reference: str | None = None
    likelihood_weight: float = 0.0
    step_scores: StepScores | None = None
    model_options: Mapping[str, Any] = field(default_factory=dict)
    opened: dict[str, Model] = field(default_factory=dict)

    def has(self, name: ResourceName) -> bool:
        """Whether this resource was given."""
        return bool(getattr(self, name))

    @property
    def compares(self) -> bool:
        """Whether a second model was given for a judge that compares two."""
        return self.reference is not None or self.judge_model is not None

    def __bool__(self) -> bool:
        return any(map(self.has, RESOURCE_NAMES))

    def fitting(self, method: str, judge: str | None) -> ResourceSpec:
        """The same without a calibration that was measured for another judge."""
        return replace(self, calibration=_fitting(self.calibration, method, judge))

    @contextmanager
    def open_with(
        self, model: str, model_name: str | None, adapters: Sequence[str] = (), **more: Any
    ) -> Iterator[tuple[Model, Resources]]:
        """Open the model that answers, with `more` options of `open_model`, and the resources.

        Raises ModelError.
        """
        from llava_cot.models.registry import open_model

        options = {"model_name": model_name, "adapters": adapters, **more, **self.model_options}
        with closing(open_model(model, **options)) as opened:
            if model_name is None and not adapters:  # another may mean the same by its name
                self.opened[model] = opened
            with self.open() as resources:
                yield opened, resources

    @contextmanager
    def open(self) -> Iterator[Resources]:
        """Open the models among the resources. Raises ModelError."""
        before = set(self.opened)
        with ExitStack() as stack:
            try:
                # Before the judge model, which may be an adapter on it.
                reference = None if self.reference is None else self._open_model(self.reference, stack)
                yield Resources(
                    None if self.reasoner is None else self._open_model(self.reasoner, stack),
                    None if self.judge_model is None else self._open_judge_model(self.judge_model, stack),
                    self.examples,
                    self.calibration,
                    self.judge_prompts,
                    reference,
                    self.likelihood_weight,
                    self.step_scores,
                )
            finally:
                for name in set(self.opened) - before:
                    del self.opened[name]

    def describe(self, method: str, judge: str | None) -> dict[str, str]:
        """What changes the answers of this method with this judge, by option, the same in every folder."""
        used = {name for _, name in usable(method, judge)}
        values: dict[ResourceName, str] = {}
        if self.reasoner is not None:
            values["reasoner"] = absolute(self.reasoner)
        if self.judge_model is not None:
            values["judge_model"] = absolute(self.judge_model)
        if self.reference is not None:
            values["reference"] = absolute(self.reference)
        if self.likelihood_weight:
            values["likelihood_weight"] = f"{self.likelihood_weight:g}"
        if self.step_scores is not None:
            values["step_scores"] = self.step_scores
        if self.examples:
            values["examples"] = _digest_of(self.examples)
        if self.calibration is not None:
            of = self.calibration
            wording = f", prompts {of.prompts}" if of.prompts else ""
            values["calibration"] = f"of {of.judge}, mean {of.mean!r}, deviation {of.deviation!r}{wording}"
        if self.judge_prompts is not None:
            values["judge_prompts"] = self.judge_prompts.digest
        if self.judge_model_kind == "reward" and judge is not None and JUDGES[judge].uses != "reward model":
            used.discard("judge_model")
        if self.calibration is not None and self.calibration.judge != judge:
            used.discard("calibration")
        return {option(name): values[name] for name in RESOURCE_NAMES if name in used and name in values}

    def _open_model(self, spec: str, stack: ExitStack) -> Model:
        from llava_cot.models.registry import open_model

        if spec not in self.opened:
            options: dict[str, Any] = {"opened": self.opened.values(), **self.model_options}
            self.opened[spec] = stack.enter_context(closing(open_model(spec, **options)))
        return self.opened[spec]

    def _open_judge_model(self, spec: str, stack: ExitStack) -> Model | RewardModel:
        if self.judge_model_kind != "model":
            try:
                return self._open_reward_model(spec, stack)
            except ModelError:
                if self.judge_model_kind == "reward":
                    raise
        return self._open_model(spec, stack)

    def _open_reward_model(self, spec: str, stack: ExitStack) -> RewardModel:
        from llava_cot.models.registry import open_reward

        options = for_rewards(self.model_options)
        opened: RewardModel = stack.enter_context(closing(open_reward(spec, **options)))
        return opened


class ResourceOptions(BaseModel):
    """Resources by name, for the options of commands."""

    model_config = ConfigDict(extra="forbid")

    reasoner: str | None = Field(
        default=None, description="A second model, as --model, that reasons in methods such as prism."
    )
    judge_model: str | None = Field(
        default=None,
        description="Another model that judges; a reward model for the judge reward, a trained one for "
        "implicit.",
    )
    reference: str | None = Field(
        default=None,
        description="What the judge model was trained from, for the judge implicit; by default the model "
        "that answers.",
    )
    likelihood_weight: float = Field(
        default=0.0,
        allow_inf_nan=False,
        ge=0,
        description="How much the judge implicit adds of the reference's own log-probability.",
    )
    step_scores: StepScores | None = Field(
        default=None,
        description="How judges of steps make one score of all: by their least, their mean or their last.",
    )
    examples: str | None = Field(
        default=None, description="Worked examples for the method cot-few-shot (YAML)."
    )
    calibration: str | None = Field(
        default=None,
        description="The judge's calibration, for methods with a cut-off; see `judge calibrate`.",
    )
    judge_prompts: str | None = Field(default=None, description="Other wording of duels and checks (YAML).")


def read_resources(options: ResourceOptions | None = None, **model_options: Any) -> ResourceSpec:
    """Read the files of the resources that were named; models are not opened.

    Args:
        options: The names of the resources.
        model_options: Options of `open_model`, such as the device.

    Raises:
        ValueError: A file cannot be used.
    """
    from llava_cot.search.examples import load_examples

    named = options or ResourceOptions()
    return ResourceSpec(
        named.reasoner,
        named.judge_model,
        "either",
        () if named.examples is None else load_examples(named.examples),
        None if named.calibration is None else load_calibration(named.calibration),
        None if named.judge_prompts is None else load_judge_prompts(named.judge_prompts),
        named.reference,
        named.likelihood_weight,
        named.step_scores,
        model_options,
    )


def for_requests(spec: ResourceSpec, requests: list[Request]) -> ResourceSpec:
    """The resources of these requests. Raises ValueError for one that none of them uses."""
    pairs = [(request.method, request.judge_name) for request in requests]
    used = {name for method, judge in pairs for _, name in usable(method, judge)}
    for name in RESOURCE_NAMES:
        if spec.has(name) and name not in used:
            raise ValueError(_unused(name))
    judges = {judge for method, judge in pairs if (method, "calibration") in usable(method, judge)}
    if spec.calibration is not None and spec.calibration.judge not in judges:
        raise ValueError(other_judge(spec.calibration.judge, ", ".join(sorted(filter(None, judges)))))
    rewarding = any(judge is not None and JUDGES[judge].uses == "reward model" for _, judge in pairs)
    return replace(spec, judge_model_kind="reward" if rewarding else "model")


def usable(method: str, judge: str | None) -> list[tuple[str, ResourceName]]:
    """The resources that a method and its judge can use, each after the name of what uses it."""
    found: list[tuple[str, ResourceName]] = [(method, name) for name in METHODS[method].resources]
    if judge is not None and judge in JUDGES:
        if JUDGES[judge].uses != "nothing":
            found.append((judge, "judge_model"))
        if JUDGES[judge].prompted:
            found.append((judge, "judge_prompts"))
        if JUDGES[judge].reference:
            found += [(judge, "reference"), (judge, "likelihood_weight")]
        if JUDGES[judge].steps:
            found.append((judge, "step_scores"))
    return found


def option(name: ResourceName) -> str:
    """The command line's option for a resource."""
    return "--" + name.replace("_", "-")


def other_judge(measured: str, used: str) -> str:
    """The message for a calibration that was measured for another judge."""
    return (
        f"--calibration was made for the judge {measured}, but this run uses {used}: pass one for {used}, "
        "or drop the option"
    )


def absolute(spec: str) -> str:
    """A model's name that means the same in every working folder, and for one on the hub, at any time.

    Raises ModelError if such a one cannot be had.
    """
    from llava_cot.models.registry import pinned

    return pinned(spec)


def _fitting(calibration: Calibration | None, method: str, judge: str | None) -> Calibration | None:
    own = METHODS[method].judge if method in METHODS else None
    return calibration if calibration is None or calibration.judge == (judge or own) else None


def _unused(name: ResourceName) -> str:
    methods = [known for known, declared in METHODS.items() if name in declared.resources]
    judges = [
        known
        for known, declared in JUDGES.items()
        if (name == "judge_model" and declared.uses != "nothing")
        or (name == "judge_prompts" and declared.prompted)
        or (name in ("reference", "likelihood_weight") and declared.reference)
        or (name == "step_scores" and declared.steps)
    ]
    users = [
        f"the {noun}{'s' if len(names) > 1 else ''} {', '.join(names)}"
        for noun, names in (("method", methods), ("judge", judges))
        if names
    ]
    return f"{option(name)} is only used by {' and '.join(users)}; drop it, or choose one of these"


def _digest_of(examples: tuple[Example, ...]) -> str:
    """A hash of everything that a model is shown of them."""
    shown = [
        [one.question.text, one.question.options, [image.sha256 for image in one.question.images], one.answer]
        for one in examples
    ]
    return sha256(json.dumps(shown).encode()).hexdigest()[:16]
