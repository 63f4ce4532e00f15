"""What methods and judges have besides the model: named and read, to be opened for as long as it is needed.

Owns the opening, and what of it a method with its judge makes use of. Knows what each takes by `METHODS` and
`JUDGES` alone, and nothing of what they do with it. What is refused is `equipping.py`'s subject.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from llava_cot.errors import ModelError
from llava_cot.models.base import Model
from llava_cot.models.registry import BUILT_IN
from llava_cot.search.ask import wants
from llava_cot.search.extras import Calibration, Example, Extra, Extras
from llava_cot.search.judges import JUDGES
from llava_cot.search.methods import METHODS

if TYPE_CHECKING:
    from llava_cot.models.base import RewardModel

# What a judge model is: one that rewards, one that writes, or whichever of the two it proves to be.
JudgeModelKind = Literal["reward", "model", "either"]


@dataclass(frozen=True, eq=False)
class Equipment:
    """What was named, None where nothing was: the files are read, the models still to be opened.

    `settings` are what `open_model` takes besides. `known` has models that are open, by what they were
    called; one that is named twice is opened once.
    """

    reasoner: str | None = None
    judge_model: str | None = None
    kind: JudgeModelKind = "model"
    examples: tuple[Example, ...] = ()
    calibration: Calibration | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    known: dict[str, Model] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.reasoner or self.judge_model or self.examples or self.calibration)

    @contextmanager
    def opened_with(self, model: str, model_name: str | None) -> Iterator[tuple[Model, Extras]]:
        """The model that answers, and all of it beside. Raises ModelError."""
        from llava_cot import open_model

        with closing(open_model(model, model_name=model_name, **self.settings)) as opened:
            if model_name is None:
                self.known[model] = opened
            with self.opened() as extras:
                yield opened, extras

    @contextmanager
    def opened(self) -> Iterator[Extras]:
        """All of it, for as long as it is needed. Raises ModelError."""
        before = set(self.known)
        with ExitStack() as stack:
            try:
                yield Extras(
                    None if self.reasoner is None else self._model(self.reasoner, stack),
                    None if self.judge_model is None else self._judge_model(self.judge_model, stack),
                    self.examples,
                    self.calibration,
                )
            finally:
                for name in set(self.known) - before:
                    del self.known[name]

    def told(self, method: str, judge: str | None) -> dict[str, str]:
        """What of it changes this method's answers, in the same words wherever the command is given."""
        taken = {extra for _, extra in takes(method, judge)}
        said = {
            "reasoner": self.reasoner and lasting(self.reasoner),
            "judge_model": self.judge_model and lasting(self.judge_model),
            "examples": self.examples and _digest(self.examples),
            "calibration": (of := self.calibration)
            and f"of {of.judge}, mean {of.mean!r}, deviation {of.deviation!r}",
        }
        if self.kind == "reward" and judge is not None and JUDGES[judge].asks != "reward":
            taken.discard("judge_model")
        if self.calibration is not None and self.calibration.judge != judge:
            taken.discard("calibration")
        return {
            option(extra): str(said[extra]) for extra in get_args(Extra) if extra in taken and said[extra]
        }

    def _model(self, spec: str, stack: ExitStack) -> Model:
        from llava_cot import open_model

        if spec not in self.known:
            self.known[spec] = stack.enter_context(closing(open_model(spec, **self.settings)))
        return self.known[spec]

    def _judge_model(self, spec: str, stack: ExitStack) -> Model | RewardModel:
        if self.kind != "model":
            try:
                return self._reward_model(spec, stack)
            except ModelError:
                if self.kind == "reward":
                    raise
        return self._model(spec, stack)

    def _reward_model(self, spec: str, stack: ExitStack) -> RewardModel:
        from llava_cot.models.reward import open_reward

        places = {name: self.settings[name] for name in ("device", "dtype") if name in self.settings}
        opened: RewardModel = stack.enter_context(closing(open_reward(spec, **places)))
        return opened


def takes(method: str, judge: str | None) -> list[tuple[str, Extra]]:
    """What a method and its judge can make use of, each with the name of whose it is."""
    found = wants(method, judge) + [(method, extra) for extra in METHODS[method].takes]
    if judge is not None and JUDGES[judge].asks == "model":
        found.append((judge, "judge_model"))
    return found


def fitting(extras: Extras, method: str, judge: str | None) -> Extras:
    """What there is for this method with this judge: a calibration of another judge's scores is none."""
    calibration = extras.calibration
    if calibration is None or calibration.judge == (judge or METHODS[method].judge):
        return extras
    return replace(extras, calibration=None)


def option(extra: Extra) -> str:
    return "--" + extra.replace("_", "-")


def lasting(spec: str) -> str:
    """What a model is, from whichever folder the command is given."""
    folder = Path(spec).expanduser()
    return str(folder.resolve()) if spec not in BUILT_IN and folder.is_dir() else spec


def _digest(examples: tuple[Example, ...]) -> str:
    """A hash of all that a model is shown of them."""
    shown = [
        [one.question.text, one.question.options, [image.sha256 for image in one.question.images], one.answer]
        for one in examples
    ]
    return sha256(json.dumps(shown).encode()).hexdigest()[:16]
