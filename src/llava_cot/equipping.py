"""What methods and judges want besides the model: refused early, read and opened once.

Owns the way from what a command names (models, files) to `Extras`. Knows what each method and judge takes by
`METHODS` and `JUDGES` alone, and nothing of what they do with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from llava_cot.asking import lacking, unmet, wants
from llava_cot.judges import JUDGES
from llava_cot.methods import METHODS
from llava_cot.methods.extras import Calibration, Example, Extra, Extras
from llava_cot.models import BUILT_IN
from llava_cot.models.base import Model, ModelError

if TYPE_CHECKING:
    from llava_cot.judges.base import RewardModel

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
            "calibration": self.calibration
            and json.dumps([self.calibration.judge, self.calibration.mean, self.calibration.deviation]),
        }
        if self.kind == "reward" and judge is not None and JUDGES[judge].asks != "reward":
            taken.discard("judge_model")
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
        from llava_cot.models.reward import open_reward  # type: ignore[import-not-found,unused-ignore]

        places = {name: self.settings[name] for name in ("device", "dtype") if name in self.settings}
        opened: RewardModel = stack.enter_context(closing(open_reward(spec, **places)))
        return opened


def equip(
    uses: Iterable[tuple[str, str | None]] | None,
    *,
    reasoner: str | None = None,
    judge_model: str | None = None,
    examples: str | None = None,
    calibration: str | None = None,
    known: dict[str, Model] | None = None,
    **settings: Any,
) -> Equipment:
    """Look at what was named for these methods, each with its judge, before any model is opened.

    None stands for whatever may be asked for later, of which nothing is known to be missing. `settings` are
    for `open_model`. Raises ValueError for what no method and no judge here takes, for what one wants and was
    not given, and for files that cannot be used.
    """
    given = {
        "reasoner": reasoner, "judge_model": judge_model, "examples": examples, "calibration": calibration,
    }  # fmt: skip
    named = {extra for extra in get_args(Extra) if given[extra] is not None}
    pairs = [(method, judge or METHODS[method].judge) for method, judge in uses or _all()]
    taken = {extra for method, judge in pairs for _, extra in takes(method, judge)}
    for extra in get_args(Extra):
        if extra in named - taken:
            raise ValueError(_not_taken(extra))
    for method, judge in pairs if uses is not None else ():
        if (lack := lacking(method, judge, named)) is not None:
            raise ValueError(unmet(*lack))
    kind: JudgeModelKind = "either"
    if uses is not None:
        rewarding = any(judge is not None and JUDGES[judge].asks == "reward" for _, judge in pairs)
        kind = "reward" if rewarding else "model"
    elif not any(judge.asks == "reward" for judge in JUDGES.values()):
        kind = "model"
    return Equipment(
        reasoner,
        judge_model,
        kind,
        () if examples is None else _examples(examples),
        None if calibration is None else _calibration(calibration),
        settings,
        {} if known is None else known,
    )


def takes(method: str, judge: str | None) -> list[tuple[str, Extra]]:
    """What a method and its judge can make use of, each with the name of whose it is."""
    found = list(wants(method, judge))
    if judge is not None and JUDGES[judge].asks == "model":
        found.append((judge, "judge_model"))
    return found


def option(extra: Extra) -> str:
    return "--" + extra.replace("_", "-")


def lasting(spec: str) -> str:
    """What a model is, from whichever folder the command is given."""
    folder = Path(spec).expanduser()
    return str(folder.resolve()) if spec not in BUILT_IN and folder.is_dir() else spec


def _all() -> list[tuple[str, str | None]]:
    return [
        (method, judge)
        for method, kind in METHODS.items()
        for judge in (JUDGES if kind.judge is not None else [None])
    ]


def _not_taken(extra: Extra) -> str:
    methods = [name for name, kind in METHODS.items() if extra in kind.wants]
    judges = [name for name, kind in JUDGES.items() if extra == "judge_model" and kind.asks != "nobody"]
    those = [
        f"the {noun}{'s' if len(names) > 1 else ''} {', '.join(names)}"
        for noun, names in (("method", methods), ("judge", judges))
        if names
    ]
    if not those:
        return f"no method and no judge here takes {option(extra)}; leave it out"
    return f"{option(extra)} is for {' and '.join(those)}; leave it out, or choose such a one"


def _examples(file: str) -> tuple[Example, ...]:
    from llava_cot.methods.examples import load_examples  # type: ignore[import-not-found,unused-ignore]

    return tuple(load_examples(file))


def _calibration(file: str) -> Calibration:
    from llava_cot.judges.calibration import load_calibration  # type: ignore[import-not-found,unused-ignore]

    loaded: Calibration = load_calibration(file)
    return loaded


def _digest(examples: tuple[Example, ...]) -> str:
    """A hash of all that a model is shown of them."""
    shown = [
        [one.question.text, one.question.options, [image.sha256 for image in one.question.images], one.answer]
        for one in examples
    ]
    return sha256(json.dumps(shown).encode()).hexdigest()[:16]
