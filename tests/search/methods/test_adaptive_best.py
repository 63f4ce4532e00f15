"""adaptive-best-of-n: samples until the judge is sure, keeps the best, asks about each text once."""

import random

import pytest
from playing import PICTURE, QUESTION, run_method, tagged

from llava_cot.core.question import Question
from llava_cot.core.trace import Candidate, Trace, Usage
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.judges.base import Judge, JudgeScore
from llava_cot.search.methods import METHODS
from llava_cot.search.methods.adaptive_best import SURE
from llava_cot.search.request import make_request
from llava_cot.search.search import Search


class Marks(Judge):
    """Gives each answer the number that stands in it."""

    name = "marks"
    probability = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        assert (question.images, stage, context) == ((PICTURE,), "answer", "")
        self.asked.append(candidate.text)
        return JudgeScore(float(candidate.text.split()[1]), "so", Usage(model_calls=1, prompt_tokens=9))


async def run(model: ScriptedModel, judge: Judge, n: int, seed: int = 5) -> Trace:
    sampling = Sampling(max_tokens=99, seed=seed)
    return await run_method("adaptive-best-of-n", model, judge, n=n, sampling=sampling)


def writes(*marks: float) -> ScriptedModel:
    left = [tagged("conclusion", str(mark)) for mark in marks]
    return ScriptedModel(lambda prompt, rng: left.pop(0))


@pytest.mark.parametrize(
    ("marks", "n", "used", "kept"),
    [
        ((0.95,), 8, 1, 0),
        ((SURE,), 8, 1, 0),
        ((0.2, 0.5, 0.93, 0.99), 8, 3, 2),
        ((0.2, 0.5, 0.4), 3, 3, 1),
        ((0.2, 0.95), 1, 1, 0),
        ((0.0, 0.0, 0.0), 3, 3, 0),
        ((0.1, 0.6, 0.6, 0.2), 4, 4, 1),
    ],
)
async def test_it_stops_once_the_judge_is_sure(
    marks: tuple[float, ...], n: int, used: int, kept: int
) -> None:
    judge = Marks()
    trace = await run(writes(*marks), judge, n)
    assert (len(trace.candidates), trace.chosen, trace.n) == (used, (kept,), n)
    assert [(score.candidate, score.value) for score in trace.scores] == list(enumerate(marks[:used]))
    asked = len(set(marks[:used]))
    assert len(judge.asked) == asked
    assert trace.usage.model_calls == used + asked
    assert (trace.judge, trace.verdicts, trace.answer) == ("marks", (), str(marks[kept]))


def marked(prompt: Prompt, rng: random.Random) -> str:
    return tagged("conclusion", f"{rng.random():.3f} .")


async def test_its_samples_are_those_of_a_single_call_under_the_same_seed() -> None:
    for seed in range(20):
        model = ScriptedModel(marked)
        trace = await run(model, Marks(), 8, seed)
        [call] = [call for call in model.calls if call.sampling.first == 0]
        whole = await ScriptedModel(marked).sample(call.prompt, 8, call.sampling)
        texts = [one.text for one in whole]
        assert [candidate.text for candidate in trace.candidates] == texts[: len(trace.candidates)]
        scores = [float(text.split()[1]) for text in texts]
        stop = next((i + 1 for i, score in enumerate(scores) if score >= SURE), 8)
        assert len(trace.candidates) == stop
        assert trace.text == texts[scores.index(max(scores[:stop]))]


async def test_without_a_judge_it_is_refused() -> None:
    search = Search(make_request("adaptive-best-of-n"), writes(1), QUESTION)
    with pytest.raises(ValueError, match="declares no judge"):
        await METHODS["adaptive-best-of-n"].run(search)
