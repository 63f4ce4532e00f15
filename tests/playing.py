"""A picture, judges and scripts that tests of methods and judges play with."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from PIL import Image

from llava_cot.core.plugins import Registry
from llava_cot.core.question import Question, load_image
from llava_cot.core.stages import LLAVA_COT, StageFormat
from llava_cot.core.trace import Candidate, Trace, Usage
from llava_cot.models.base import Continuation, Finish, Prompt, Reward, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.ask import answer
from llava_cot.search.calibration import Calibration
from llava_cot.search.judges import JUDGES
from llava_cot.search.judges.base import Judge, Opinion, Preference
from llava_cot.search.methods import METHODS
from llava_cot.search.request import Request, make_request
from llava_cot.search.resources import Example, Resources
from llava_cot.search.search import OnEvent, Search

PICTURE = load_image(Image.new("RGB", (8, 6), (200, 30, 30)))
QUESTION = Question("How many are left?", (PICTURE,))

WORDS = {
    "summary": "I will count.",
    "caption": "There are 3 cubes.",
    "reasoning": "3 minus 1 is 2.",
    "conclusion": "2",
}


def judges_of(method: str) -> list[str | None]:
    """The judges that a method can ask without another model being given; None alone if it asks none."""
    kind = METHODS[method]
    if kind.judge is None:
        return [None]
    return [
        name
        for name, judge in JUDGES.items()
        if judge.uses != "reward model"
        and not judge.reference
        and (judge.scores or not kind.scores)
        and (judge.probability or not kind.probabilities)
    ]


# Every method that wants nothing but the model, with each of its judges.
SEARCHES = [
    (method, judge) for method, kind in METHODS.items() if not kind.requires for judge in judges_of(method)
]


@contextmanager
def registered(registry: Registry[Any], name: str, entry: Any) -> Iterator[None]:
    """An entry of a registry, for a while."""
    registry.add(name, entry)
    try:
        yield
    finally:
        registry.remove(name)


@contextmanager
def registering() -> Iterator[None]:
    """Methods and judges may be registered within; they are forgotten afterwards."""
    before = [(registry, set(registry)) for registry in (METHODS, JUDGES)]
    try:
        yield
    finally:
        for registry, names in before:
            for name in set(registry) - names:
                registry.remove(name)


def tagged(stage: str, text: str) -> str:
    return f"<{stage.upper()}> {text} </{stage.upper()}>"


WHOLE = "\n\n".join(tagged(stage, text) for stage, text in WORDS.items())


def remainder(whole: str) -> Callable[[Prompt, random.Random], str]:
    """A script that always writes this answer."""
    return lambda prompt, rng: whole[len(prompt.prefix) :] if whole.startswith(prompt.prefix) else ""


def by_stage(words: Mapping[str, str]) -> Callable[[Prompt, random.Random], str]:
    """A script that writes the stages that are not begun, whatever stands in those that are."""
    return lambda prompt, rng: "\n\n".join(
        tagged(stage, text) for stage, text in words.items() if f"<{stage.upper()}>" not in prompt.prefix
    )


def continuation(text: str, finish: Finish = "stop", tokens: tuple[int, ...] = (1,)) -> Continuation:
    return Continuation(text, tokens, -1.0, finish, prompt_tokens=10, completion_tokens=3)


def new_search(
    on_event: OnEvent | None = None,
    n: int = 2,
    stage: str = "reasoning",
    judge: Judge | None = None,
    seed: int = 0,
) -> Search:
    """A search that has begun a round of this stage."""
    request = Request("stage-beam", n, judge or Referee(len), Sampling(seed=seed))
    search = Search(request, ScriptedModel({}), QUESTION, judge or Referee(len), on_event=on_event)
    search.start(stage)
    return search


async def run_method(
    method: str,
    model: ScriptedModel,
    judge: Judge | None = None,
    *,
    question: Question = QUESTION,
    n: int | None = None,
    sampling: Sampling | None = None,
    fmt: StageFormat = LLAVA_COT,
    on_event: OnEvent | None = None,
    **resources: Any,
) -> Trace:
    """The trace of a method on a question about a picture."""
    given = Resources(**resources)
    request = make_request(method, n=n, judge=judge, sampling=sampling, fmt=fmt, resources=given)
    return await answer(request, model, question, given, on_event)


class Rewarder:
    """A reward model that gives an answer's worth, and notes what it was asked."""

    name = "rewarder"

    def __init__(self, worth: Callable[[str], float] = len) -> None:
        self.worth = worth
        self.asked: list[tuple[Prompt, str]] = []

    async def reward(self, prompt: Prompt, answer: str) -> Reward:
        self.asked.append((prompt, answer))
        return Reward(self.worth(answer), prompt_tokens=4, usd=0.5)


def resources_for(judge: str | None = None, answer: str = "2") -> Resources:
    """What any method and this judge may want: a reasoner that answers this, an example, a calibration."""
    rewarded = judge is not None and JUDGES[judge].uses == "reward model"
    return Resources(
        reasoner=ScriptedModel(lambda prompt, rng: f"By {rng.random()} it follows.\nAnswer: {answer}"),
        judge_model=Rewarder() if rewarded else None,
        examples=(Example(Question("How many?", (PICTURE,)), "I see one. The answer is 1."),),
        calibration=Calibration(judge or "self", 0.0, 1.0),
        reference=ScriptedModel({}) if judge is not None and JUDGES[judge].reference else None,
    )


class Referee(Judge):
    """Prefers the text with the higher worth, chooses nothing if they are equal, and notes each duel."""

    name = "referee"

    def __init__(self, worth: Callable[[str], float], correct: Callable[[str], bool | None] | None = None):
        super().__init__()
        self.worth = worth
        self.correct = correct
        self.duels: list[tuple[str, str, str, str]] = []
        self.checked: list[str] = []

    async def check(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> Opinion | None:
        if self.correct is None:
            return None
        self.checked.append(candidate.text)
        return Opinion(self.correct(candidate.text), "looked", Usage(model_calls=1, prompt_tokens=7))

    async def prefer(
        self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
    ) -> Preference:
        self.duels.append((stage, context, a.text, b.text))
        x, y = self.worth(a.text), self.worth(b.text)
        choice: Literal[1, 2] | None = None if x == y else 1 if x > y else 2
        return Preference(choice, "said", (x, y), Usage(model_calls=1, completion_tokens=5))
