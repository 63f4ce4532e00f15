"""Methods and a judge that need resources, to test how resources reach them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playing import registered

from llava_cot.core.question import Question
from llava_cot.models.base import Prompt, Reward
from llava_cot.search.calibration import Calibration
from llava_cot.search.judges import JUDGES, Judge, JudgeScore, JudgeType, Preference
from llava_cot.search.methods import METHODS, Method
from llava_cot.search.resources import Example
from llava_cot.search.search import Search


async def relay(search: Search) -> None:
    """The reasoner goes on with what the model says."""
    [seen] = await search.sample("caption", stop=("</CAPTION>",))
    search.keep(seen)
    settings = search.sampling()
    search.start("conclusion")
    prompt = replace(search.prompt(search.path), prefix_tokens=None)  # the ids are of the other model
    [answer] = await search.draw(prompt, 1, settings, model=search.resources.reasoner)
    search.keep(search.add(answer))


async def shower(search: Search) -> None:
    """The examples go before the question."""
    search.start("answer")
    lines = [*(one.answer for one in search.resources.examples), search.question.text]
    search.keep(search.add(await search.reply(Prompt.of("\n".join(lines), search.question.images))))


async def cutter(search: Search) -> None:
    """The best of n, or the first whose score is above the mean."""
    search.start("answer")
    sampled = await search.draw(search.prompt([]), search.n, search.request.sampling)
    found = [search.add(one) for one in sampled]
    scores = await search.scores(found)
    assert search.resources.calibration is not None
    good = [i for i, score in enumerate(scores) if score > search.resources.calibration.mean]
    search.keep(found[good[0] if good else scores.index(max(scores))])


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

    async def score(
        self, question: Any, stage: Any, context: Any, candidate: Any, *, seed: int
    ) -> JudgeScore:
        model: Any = self.setup.model
        found: Reward = await model.reward(Prompt.of(question.text), context + candidate.text)
        return JudgeScore(found.value)

    async def prefer(
        self, question: Any, stage: Any, context: Any, a: Any, b: Any, *, seed: int
    ) -> Preference:
        return Preference(1 if len(a.text) > len(b.text) else 2)


class Openings:
    """Reward models and files by name, replaced for a test; each opening is noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rewards: list[Lengths] = []
        monkeypatch.setattr("llava_cot.models.registry.open_reward", self._reward)
        monkeypatch.setattr("llava_cot.search.examples.load_examples", self._examples)
        monkeypatch.setattr("llava_cot.search.resources.load_calibration", self._calibration)

    def _reward(self, spec: str, *, device: str = "auto", dtype: str = "auto") -> Lengths:
        self.rewards.append(Lengths())
        return self.rewards[-1]

    def _examples(self, file: str) -> list[Example]:
        return [Example(Question("What is it?"), line) for line in Path(file).read_text().splitlines()]

    def _calibration(self, file: str) -> Calibration:
        judge, mean = Path(file).read_text().split()
        return Calibration(judge, float(mean), 1.0)


KNOWN = (
    Method("relay", relay, n=1, single=True, requires=("reasoner",)),
    Method("shower", shower, n=1, single=True, requires=("examples",)),
    Method("cutter", cutter, judge="likelihood", scores=True, budgeted=True, requires=("calibration",)),
    Method("free", shower, n=1, single=True, accepts=("examples",)),
)
JUDGE = JudgeType("asking", Asking, uses="reward model", scores=True)


@contextmanager
def extra_methods() -> Iterator[Openings]:
    """Register these methods and the judge, for a while."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as monkeypatch:
        for method in KNOWN:
            stack.enter_context(registered(METHODS, method.name, method))
        stack.enter_context(registered(JUDGES, JUDGE.name, JUDGE))
        yield Openings(monkeypatch)
