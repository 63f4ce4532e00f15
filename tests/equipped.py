"""Methods and a judge that want what a model alone has not: what carries it to them is tested with these."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from llava_cot.search.extras import Calibration, Example
from llava_cot.search.grading import grade

from llava_cot.core.question import Question
from llava_cot.core.trace import Trace
from llava_cot.models.base import Prompt, Reward
from llava_cot.search.judges import JUDGES, Grade, JudgeKind
from llava_cot.search.judges.base import Judge, Preference
from llava_cot.search.methods import METHODS, Kind
from llava_cot.search.methods.base import go_on
from llava_cot.search.search import Recorder


async def relay(
    question: Any, model: Any, judge: Any, *, n: int, sampling: Any, rng: Any, fmt: Any, on_event: Any = None,
    reasoner: Any,
) -> Trace:  # fmt: skip
    """The reasoner goes on with what the model says."""
    record = Recorder("relay", question, model, None, n, sampling, fmt, on_event)
    record.start("caption")
    settings = replace(sampling, seed=rng.getrandbits(63), stop=("</CAPTION>",))
    [seen] = await go_on(model, question, "", None, 1, settings)
    record.keep(record.add(seen))
    record.start("conclusion")
    [said] = await go_on(reasoner, question, record.text, None, 1, settings)
    record.keep(record.add(said))
    return record.finish()


async def shower(
    question: Any, model: Any, judge: Any, *, n: int, sampling: Any, rng: Any, fmt: Any, on_event: Any = None,
    examples: tuple[Example, ...],
) -> Trace:  # fmt: skip
    """The examples go before the question."""
    record = Recorder("shower", question, model, None, n, sampling, fmt, on_event)
    record.start("answer")
    asked = Question("\n".join([*(one.answer for one in examples), question.text]), question.images)
    record.keep(record.add((await go_on(model, asked, "", None, 1, sampling))[0]))
    return record.finish()


async def free(question: Any, model: Any, judge: Any, *, examples: tuple[Example, ...], **how: Any) -> Trace:
    """With examples or without."""
    return await shower(question, model, judge, examples=examples, **how)


async def cutter(
    question: Any, model: Any, judge: Any, *, n: int, sampling: Any, rng: Any, fmt: Any, on_event: Any = None,
    budget: int | None, calibration: Calibration,
) -> Trace:  # fmt: skip
    """The best of n, or the first whose score is above the mean."""
    record = Recorder("cutter", question, model, judge, n, sampling, fmt, on_event, budget)
    record.start("answer")
    found = [record.add(one) for one in await go_on(model, question, "", None, n, sampling)]
    scores = await grade(record, judge, found, rng)
    good = [i for i, score in enumerate(scores) if score > calibration.mean]
    record.keep(found[good[0] if good else scores.index(max(scores))])
    return record.finish()


class Lengths:
    """A reward model that likes long answers."""

    name = "lengths"

    def __init__(self) -> None:
        self.closed = False

    async def reward(self, prompt: Prompt, answer: str) -> Reward:
        return Reward(float(len(answer)))

    def close(self) -> None:
        self.closed = True


class Asking(Judge):
    """Scores by a reward model."""

    name = "asking"

    def __init__(self, model: Any) -> None:
        self._model = model

    async def score(self, question: Any, stage: Any, context: Any, candidate: Any, *, seed: int) -> Grade:
        found: Reward = await self._model.reward(Prompt.of(question.text), context + candidate.text)
        return Grade(found.value)

    async def prefer(
        self, question: Any, stage: Any, context: Any, a: Any, b: Any, *, seed: int
    ) -> Preference:
        return Preference(1 if len(a.text) > len(b.text) else 2)


class Openings:
    """The modules that open what is named, so far as a test says; each opening is noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rewards: list[Lengths] = []
        self._put(monkeypatch, "llava_cot.models.reward", open_reward=self._reward)
        self._put(monkeypatch, "llava_cot.search.examples", load_examples=self._examples)
        self._put(monkeypatch, "llava_cot.search.calibration", load_calibration=self._calibration)

    def _put(self, monkeypatch: pytest.MonkeyPatch, name: str, **made: Any) -> None:
        module = ModuleType(name)
        vars(module).update(made)
        monkeypatch.setitem(sys.modules, name, module)

    def _reward(self, spec: str, *, model_name: str | None = None, device: str, dtype: str) -> Lengths:
        self.rewards.append(Lengths())
        return self.rewards[-1]

    def _examples(self, file: str) -> list[Example]:
        return [Example(Question("What is it?"), line) for line in Path(file).read_text().splitlines()]

    def _calibration(self, file: str) -> Calibration:
        judge, mean = Path(file).read_text().split()
        return Calibration(judge, float(mean), 1.0)


def register(monkeypatch: pytest.MonkeyPatch) -> Openings:
    """Make all of it known, for one test."""
    for name, kind in {
        "relay": Kind(relay, one=True, wants=("reasoner",)),
        "shower": Kind(shower, one=True, wants=("examples",)),
        "cutter": Kind(cutter, judge="likelihood", scored=True, budgeted=True, wants=("calibration",)),
        "free": Kind(free, one=True, takes=("examples",)),
    }.items():
        monkeypatch.setitem(METHODS, name, kind)
    monkeypatch.setitem(
        JUDGES, "asking", JudgeKind(lambda model, fmt, sampling: Asking(model), asks="reward", scores=True)
    )
    return Openings(monkeypatch)
