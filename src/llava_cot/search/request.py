"""The choices for one question, checked once: `make_request`, and the one-word specs of methods."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llava_cot.core.stages import LLAVA_COT, STAGES_HELP, StageFormat, StagesChoice
from llava_cot.errors import RequestError
from llava_cot.models.base import Sampling, constraints_of, gives_logprobs, scores_texts
from llava_cot.search.calibration import has_cut_off
from llava_cot.search.judges.base import JUDGES, Judge
from llava_cot.search.methods.base import ALIASES, GREEDY, METHODS, Method, ResourceName, short_name
from llava_cot.search.resources import DESCRIPTIONS, Resources, ResourceSpec, option, other_judge

DEFAULT_METHOD = "stage-beam"  # the paper's
MAX_N = 100_000  # candidates; more are a slip of the keyboard
_NUMBERED = re.compile(r"(.+)-([1-9][0-9]{0,8})")
_STAGED = re.compile(rf"(.+)\+({'|'.join(get_args(StagesChoice))})")
_WITHIN = re.compile(r"(.+)-within-([1-9][0-9]{0,8})")


@dataclass(frozen=True)
class Request:
    """The checked choices for one question; made by `make_request`.

    Attributes:
        method: The method's name.
        n: The number of candidates.
        judge: The judge's name, or a judge; None for a method that uses none.
        sampling: How candidates are sampled. Its seed is the request's.
        budget: The most new tokens of the question, judging included; None for no such bound.
        fmt: The stage format.
        stages: Whether the model writes the stages by itself ("trained"), or is prompted for each
            ("prompted"), or which is to be found out ("auto").
        think_tokens: The most tokens of a model's thinking; None for no bound of its own.
        min_think_tokens: The fewest tokens of its thinking.
    """

    method: str
    n: int
    judge: str | Judge | None
    sampling: Sampling
    budget: int | None = None
    fmt: StageFormat = LLAVA_COT
    stages: StagesChoice = "auto"
    think_tokens: int | None = None
    min_think_tokens: int | None = None

    @property
    def declaration(self) -> Method:
        """What the method declares."""
        return METHODS[self.method]

    @property
    def judge_name(self) -> str | None:
        """The judge's name."""
        return self.judge.name if isinstance(self.judge, Judge) else self.judge

    def with_seed(self, seed: int) -> Request:
        """The same with another seed."""
        return replace(self, sampling=replace(self.sampling, seed=seed))


class StagingOptions(BaseModel):
    """How a model comes to write stages, for the options of commands and the fields of HTTP requests."""

    model_config = ConfigDict(extra="forbid", strict=True)

    stages: StagesChoice | None = Field(default=None, description=STAGES_HELP)
    think_tokens: int | None = Field(
        default=None,
        description="The most tokens of the model's thinking, which is cut and closed there (--format "
        "thinking).",
    )
    min_think_tokens: int | None = Field(
        default=None, description="The fewest tokens of it: a shorter one is continued at its end."
    )


class SearchOptions(StagingOptions):
    """The choices of a search by name, for the options of commands and the fields of HTTP requests."""

    method: str | None = Field(default=None, description="The method; stage-beam if not given.")
    n: int | None = Field(
        default=None, description="The number of candidates; the method's own if not given."
    )
    judge: str | None = Field(default=None, description="The judge; the method's own if not given.")
    budget: int | None = Field(
        default=None, description="The most new tokens of the question, for methods that keep to a budget."
    )


def make_request(
    method: str | None = None,
    *,
    n: int | None = None,
    judge: str | Judge | None = None,
    sampling: Sampling | None = None,
    budget: int | None = None,
    fmt: StageFormat = LLAVA_COT,
    resources: Resources | ResourceSpec | None = None,
    stages: StagesChoice | None = None,
    think_tokens: int | None = None,
    min_think_tokens: int | None = None,
) -> Request:
    """Check the choices for a question, and fill in the method's own n and judge.

    Args:
        method: A name in `METHODS`; by default stage-beam, the paper's method.
        n: The number of candidates; by default the method's own.
        judge: A name in `JUDGES`, or a judge; by default the method's own.
        sampling: How candidates are sampled; by default as in the paper.
        budget: The most new tokens of the question, for methods that keep to one.
        fmt: The stage format.
        resources: What the method and the judge may use besides the model.
        stages: "trained" if the model writes the stages by itself, "prompted" to ask it for each; by default
            that is found out.
        think_tokens: The most tokens of the model's thinking, in a format of thinking.
        min_think_tokens: The fewest.

    Raises:
        RequestError: The choices cannot work; the error names the field.
    """
    staging = {"stages": stages, "think_tokens": think_tokens, "min_think_tokens": min_think_tokens}
    _check_types(method, n, judge, budget, sampling, fmt, staging)
    method = DEFAULT_METHOD if method is None else ALIASES.get(method, method)
    if method not in METHODS:
        named = _NUMBERED.fullmatch(method)
        if named and (known := _method(named[1])):
            raise RequestError("method", f"{method} names a method and n; give {known} and {named[2]} apart")
        raise RequestError("method", str(METHODS.unknown(method)))
    declared = _declaration(method)
    if n is None:
        n = declared.n
    if not 1 <= n <= MAX_N:
        least = "a question needs at least one candidate" if n < 1 else f"give at most {MAX_N:,}"
        raise RequestError("n", f"n is {n}; {least}")
    if declared.single and n != 1:
        raise RequestError(
            "n", f"the method {method} takes one sample, not {n}; use n = 1, or choose a search"
        )
    if budget is not None and not declared.budgeted:
        names = ", ".join(name for name, known in METHODS.items() if known.budgeted)
        raise RequestError(
            "budget", f"the method {method} keeps to no budget; drop it, or choose one of {names}"
        )
    if budget is not None and budget < 1:
        raise RequestError("budget", f"the budget is {budget} tokens; give at least 1")
    if judge is not None and declared.judge is None:
        raise RequestError("judge", f"the method {method} uses no judge; drop it, or choose a search")
    judge = declared.judge if judge is None else judge
    _check_judge(declared, judge)
    _check_resources(declared, judge, Resources() if resources is None else resources)
    sampling = sampling or Sampling()
    _check_thinking(think_tokens, min_think_tokens, sampling.max_tokens, fmt)
    return Request(method, n, judge, sampling, budget, fmt, stages or "auto", think_tokens, min_think_tokens)


def _check_thinking(most: int | None, least: int | None, max_tokens: int, fmt: StageFormat) -> None:
    """Raises RequestError for bounds of the thinking that cannot be kept."""
    longest = max_tokens if most is None else most
    for name, value in (("think_tokens", most), ("min_think_tokens", least)):
        if value is None:
            continue
        if not fmt.thinking:
            raise RequestError(name, f"{name} is for a model's thinking; add --format thinking, or drop it")
        if not 1 <= value <= max_tokens:
            raise RequestError(name, f"{name} is {value}; give 1 to {max_tokens}, which is max_tokens")
        if value > longest:
            raise RequestError(name, f"{name} is {value}, more than think_tokens, {longest}; give no more")


def _check_types(
    method: object,
    n: object,
    judge: object,
    budget: object,
    sampling: object,
    fmt: object,
    staging: dict[str, Any],
) -> None:
    """Raises RequestError for a value of the wrong type, which HTTP and the command line cannot pass."""
    name = None if isinstance(judge, Judge) else judge
    try:
        SearchOptions(method=method, n=n, judge=name, budget=budget, **staging)  # type: ignore[arg-type]
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        field = str(fault["loc"][0])
        raise RequestError(field, f"{field} is {fault['input']!r}: {fault['msg']}") from None
    if sampling is not None and not isinstance(sampling, Sampling):
        raise RequestError("sampling", f"sampling is a {type(sampling).__name__}; give a Sampling")
    if not isinstance(fmt, StageFormat):
        raise RequestError(
            "fmt", f"fmt is a {type(fmt).__name__}; give a StageFormat, as make_format makes it"
        )


def _declaration(method: str) -> Method:
    try:
        return METHODS[method]
    except ValueError as error:  # of another package
        raise RequestError("method", str(error)) from None


def _check_judge(declared: Method, judge: str | Judge | None) -> None:
    """Raises RequestError for a judge that cannot work with the method."""
    method = declared.name
    if judge is None:
        return
    if isinstance(judge, Judge):
        name, scores, probability = judge.name, judge.can_score, judge.probability
    elif judge in JUDGES:
        try:
            known = JUDGES[judge]
        except ValueError as error:  # of another package
            raise RequestError("judge", str(error)) from None
        name, scores, probability = judge, known.scores, known.probability
    else:
        raise RequestError("judge", str(JUDGES.unknown(judge)))
    if declared.scores and not scores:
        names = ", ".join(name for name, known in JUDGES.items() if known.scores)
        raise RequestError(
            "judge", f"the method {method} needs scores, and {name} gives none; choose one of {names}"
        )
    if declared.probabilities and not probability:
        names = ", ".join(name for name, known in JUDGES.items() if known.probability)
        raise RequestError(
            "judge",
            f"the method {method} needs probabilities, and the scores of {name} are none; "
            f"choose one of {names}",
        )


def _check_resources(
    declared: Method, judge: str | Judge | None, resources: Resources | ResourceSpec
) -> None:
    """Raises RequestError for a resource that is required and missing, or of another judge."""
    calibration = resources.calibration
    measured = calibration.judge if calibration and "calibration" in declared.resources else None
    used = judge.name if isinstance(judge, Judge) else judge
    if measured is not None and used is not None and measured != used:
        raise RequestError("calibration", other_judge(measured, used))
    if isinstance(judge, str) and JUDGES[judge].reference and not resources.compares:
        raise RequestError(
            "judge", f"{judge} needs a model that was trained from the one that answers; pass it with "
            "--judge-model, or if the trained one answers, what it was trained from with --reference",
            needs="judge_model",
        )  # fmt: skip
    for user, name in required(declared.name, judge):
        if not resources.has(name):
            field = "judge" if user == judge else "method"
            raise RequestError(
                field, f"{user} needs {DESCRIPTIONS[name]}; pass one with {option(name)}", needs=name
            )


def required(method: str, judge: str | Judge | None) -> list[tuple[str, ResourceName]]:
    """The resources without which a method and its judge cannot work, each after the name of its user.

    A method that has a cut-off needs a calibration where its judge's scores have no known scale.
    """
    declared = METHODS[method]
    found: list[tuple[str, ResourceName]] = [(method, name) for name in declared.requires]
    if isinstance(judge, str):
        if "calibration" in declared.accepts and not has_cut_off(judge):
            found.append((method, "calibration"))
        if JUDGES[judge].uses == "reward model":
            found.append((judge, "judge_model"))
    return found


def check_model(
    method: str, judge: str | None, model: object, resources: Resources | ResourceSpec | None = None
) -> None:
    """Check that a model can do what a method and its judge need.

    Args:
        method: The method's name.
        judge: The judge's name.
        model: The model that answers; what it declares counts (`models.base`).
        resources: Other models that the judge may use.

    Raises:
        RequestError: It cannot; the error names the field.
    """
    if METHODS[method].constrained and not constraints_of(model):
        raise RequestError(
            "method", f"the method {method} needs constrained decoding, which {_name(model)} does not have; "
            "choose another method or model",
        )  # fmt: skip
    if METHODS[method].logprobs and not gives_logprobs(model):
        raise RequestError(
            "method", f"the method {method} needs log-probabilities, which {_name(model)} does not give; "
            "choose another method or model",
        )  # fmt: skip
    if judge is None or judge not in JUDGES or not JUDGES[judge].logprobs:
        return
    declared, other = JUDGES[judge], getattr(resources, "judge_model", None)
    used = other if declared.uses == "model" and hasattr(other, "sample") else model
    if declared.reference:
        _check_reference(judge, model, used, getattr(resources, "reference", None))
    if not gives_logprobs(used):
        raise RequestError(
            "judge", f"the judge {judge} needs log-probabilities, which {_name(used)} does not give; "
            "choose the judge self",
        )  # fmt: skip


def _check_reference(judge: str, model: object, used: object, given: object) -> None:
    """Raises RequestError if a judge cannot compare the model `used` with a reference, given or `model`."""
    reference = given if hasattr(given, "sample") else model
    for one in (used, reference):
        if not scores_texts(one):
            raise RequestError(
                "judge", f"the judge {judge} needs the log-probabilities of whole texts, which {_name(one)} "
                "does not give; run the checkpoint here, or serve it with vLLM",
            )  # fmt: skip
    adapted = getattr(used, "adapted", None)
    own = getattr(model, "weights", adapted), getattr(model, "adapted", None)
    if adapted is not None and reference is model and own != (adapted, None):
        raise RequestError(
            "judge", f"the judge model {_name(used)} is an adapter of {adapted}, which is not the model that "
            f"answers; pass --reference {adapted}",
        )  # fmt: skip


def _name(model: object) -> str:
    return str(getattr(model, "name", "the model"))


def possible_judges(
    method: str, resources: Resources | ResourceSpec | None = None, model: object = None
) -> list[str]:
    """The judges with which a method can run (on this model), its own first; none if it uses no judge."""
    own = METHODS[method].judge
    if own is None:
        return []
    able = [name for name, _ in JUDGES.items() if _possible(method, name, resources, model)]
    return sorted(able, key=lambda name: name != own)


def possible_methods(resources: Resources | ResourceSpec | None = None, model: object = None) -> list[str]:
    """The methods that can run with these resources (on this model), with one judge at least."""
    return [
        name
        for name, known in METHODS.items()
        if (
            runs_alone(name, resources, model)
            if known.judge is None
            else possible_judges(name, resources, model)
        )
    ]


def _possible(
    method: str, judge: str | None, resources: Resources | ResourceSpec | None, model: object
) -> bool:
    fitting = None if resources is None else resources.fitting(method, judge)
    try:
        request = make_request(method, judge=judge, resources=fitting)
        if model is not None:
            check_model(method, request.judge_name, model, resources)
    except RequestError:
        return False
    return True


def runs_alone(method: str, resources: Resources | ResourceSpec | None = None, model: object = None) -> bool:
    """Whether a method can run with its own judge."""
    return _possible(method, None, resources, model)


@dataclass(frozen=True)
class Spec:
    """A method in one word: `single`, `greedy`, `stage-beam-4`, `best-of-10@logits`, `majority-8-within-600`,
    `single+prompted`.

    Attributes:
        method: The method's name.
        n: The number of candidates.
        judge: The judge's name; None for a method that uses none.
        temperature: 0 for `greedy`; None where the spec leaves it open.
        budget: The bound on the question's tokens, if there is one.
        stages: Who puts the stages; None where the spec leaves it open.
    """

    method: str
    n: int = 1
    judge: str | None = None
    temperature: float | None = None
    budget: int | None = None
    stages: StagesChoice | None = None

    @property
    def name(self) -> str:
        """The canonical spelling; `parse_spec` gives the spec again."""
        staged = "" if self.stages is None else f"+{self.stages}"
        if self.temperature is not None:
            return GREEDY + staged
        declared = METHODS[self.method]
        return (
            (self.method if declared.single else f"{declared.short}-{self.n}")
            + ("" if self.budget is None else f"-within-{self.budget}")
            + ("" if self.judge in (None, declared.judge) else f"@{self.judge}")
            + staged
        )

    def request(
        self,
        sampling: Sampling | None = None,
        fmt: StageFormat = LLAVA_COT,
        resources: Resources | ResourceSpec | None = None,
        staging: StagingOptions | None = None,
    ) -> Request:
        """The request for this spec, whose own stages go before those of `staging`. Raises RequestError."""
        sampling = sampling or Sampling()
        if self.temperature is not None:
            sampling = replace(sampling, temperature=self.temperature)
        fitting = None if resources is None else resources.fitting(self.method, self.judge)
        given = (staging or StagingOptions()).model_dump()
        given["stages"] = self.stages or given["stages"]
        return make_request(
            self.method, n=self.n, judge=self.judge, sampling=sampling, budget=self.budget, fmt=fmt,
            resources=fitting, **given,
        )  # fmt: skip


def parse_spec(text: str) -> Spec:
    """Read METHOD, METHOD-N, METHOD-N-within-BUDGET or any of these with @JUDGE, and then +STAGES.

    N and JUDGE are the method's own where they are left out. Whether they fit is checked by `Spec.request`.

    Raises:
        ValueError: There is no such method.
    """
    staged = _STAGED.fullmatch(text)
    words, at, judge = (staged[1] if staged else text).partition("@")
    within = _WITHIN.fullmatch(words)
    words, budget = (within[1], int(within[2])) if within else (words, None)
    numbered = _NUMBERED.fullmatch(words)
    name, number = (numbered[1], int(numbered[2])) if numbered and not _method(words) else (words, None)
    method = _method(name)
    if method is None:
        names = (known if declared.single else f"{declared.short}-N" for known, declared in METHODS.items())
        raise RequestError(
            "method", f"there is no method {text!r}; choose one of {GREEDY}, {', '.join(names)} (N from 1)"
        )
    declared = _declaration(method)
    return Spec(
        method,
        declared.n if number is None else number,
        judge if at else declared.judge,
        0.0 if name == GREEDY else None,
        budget,
        staged[2] if staged else None,  # type: ignore[arg-type]
    )


def _method(name: str) -> str | None:
    known = {GREEDY: "single"} | {short_name(name): name for name in METHODS} | {m: m for m in METHODS}
    return known.get(ALIASES.get(name, name))
