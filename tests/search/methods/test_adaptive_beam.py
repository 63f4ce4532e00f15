"""adaptive-stage-beam: first answers that agree are kept, others are searched for."""

import random

import pytest
from playing import QUESTION, WORDS, Referee, run_method, tagged

from llava_cot import ask
from llava_cot.core.stages import LLAVA_COT
from llava_cot.core.trace import Trace
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel

TAGS = LLAVA_COT.closing_tags


async def run(model: ScriptedModel, judge: Referee, n: int, seed: int = 5) -> Trace:
    sampling = Sampling(max_tokens=99, seed=seed)
    return await run_method("adaptive-stage-beam", model, judge, n=n, sampling=sampling)


def model(*first: str) -> ScriptedModel:
    """Writes these whole answers first; then stages with numbers in them."""
    left = [answer and tagged("conclusion", answer) for answer in first]

    def script(prompt: Prompt, rng: random.Random) -> str:
        if left:
            return left.pop(0) or tagged("caption", "cut")
        done = sum(tag in prompt.prefix for tag in TAGS)
        return "\n".join(tagged(stage, f"{rng.random()} .") for stage in list(WORDS)[done:])

    return ScriptedModel(script)


def worth(text: str) -> float:
    return float(text.split()[1])


@pytest.mark.parametrize("answers", [("2", "2"), ("Two.", "two")])
async def test_answers_that_agree_are_kept(answers: tuple[str, str]) -> None:
    judge = Referee(worth)
    trace = await run(model(*answers), judge, 4)
    assert (trace.chosen, trace.answer, judge.duels) == ((0,), answers[0], [])
    assert [(c.round, c.stage) for c in trace.candidates] == [(0, "answer")] * 2
    assert (trace.usage.model_calls, trace.n, trace.judge) == (2, 4, "referee")


@pytest.mark.parametrize("answers", [("2", "3"), ("2", ""), ("", "")])
async def test_else_the_stages_are_searched(answers: tuple[str, str]) -> None:
    """Cost: 2 answers, then N candidates and N - 1 duels a stage; both phases are in the trace."""
    judge, written = Referee(worth), model(*answers)
    trace = await run(written, judge, 3)
    assert [c.stage for c in trace.candidates] == ["answer"] * 2 + [s for s in WORDS for _ in range(3)]
    assert [c.round for c in trace.candidates] == [0] * 2 + [r for r in (1, 2, 3, 4) for _ in range(3)]
    assert len(trace.verdicts) == len(judge.duels) == 4 * 2
    assert trace.usage.model_calls == 2 + 4 * (3 + 2)
    written_tokens = sum(c.completion_tokens for c in trace.candidates) + 5 * len(trace.verdicts)
    assert trace.usage.completion_tokens == written_tokens
    for number in (1, 2, 3, 4):
        best = max((c for c in trace.candidates if c.round == number), key=lambda c: worth(c.text))
        assert trace.chosen[number - 1] == best.id
    assert trace.candidates[2].parent is None and len(trace.chosen) == 4
    assert trace.text == "".join(trace.candidates[i].text for i in trace.chosen)
    assert [call.sampling.stop for call in written.calls] == [(), TAGS, TAGS[1:], TAGS[2:], TAGS[3:]]
    assert len({call.sampling.seed for call in written.calls}) == 5


async def test_what_it_costs_with_the_model_as_its_judge() -> None:
    """2 answers, N candidates and N - 1 duels a stage, N checks of the reasoning."""
    written = model("2", "3")

    def script(prompt: Prompt, rng: random.Random) -> str:
        asked = prompt.messages[0].text
        if "Verdict:" in asked:
            return "Verdict: correct."
        if "I choose response" in asked:
            return f"I choose response {rng.choice('12')}."
        return written._script(prompt, rng)

    for n in (2, 4):
        written = model("2", "3")
        trace = await ask(ScriptedModel(script), None, QUESTION, method="adaptive-stage-beam", n=n)
        assert trace.usage.model_calls == 2 + 4 * n + 4 * (n - 1) + n


async def test_one_candidate_is_one_pass() -> None:
    trace = await run(model("2"), Referee(worth), 1)
    assert (trace.answer, trace.usage.model_calls) == ("2", 1)


async def test_the_same_seed_gives_the_same_trace() -> None:
    one, two, other = [
        (await run(model("2", "3"), Referee(worth), 2, seed)).model_copy(update={"usage": None})
        for seed in (1, 1, 2)
    ]
    assert one == two
    assert one.text != other.text
