"""annealed-beam against brute force, and what it samples."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import run_method

from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT, StageFormat, make_format
from llava_cot.core.trace import Candidate, Trace
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.judges.base import Judge, JudgeScore
from llava_cot.search.methods.annealed_beam import widths


class Marks(Judge):
    """Scores a candidate by the number in its text."""

    name = "marks"

    def __init__(self, marks: list[int]) -> None:
        super().__init__()
        self.marks = marks

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        found = re.search(r"\d+", candidate.text)
        assert found is not None
        return JudgeScore(self.marks[int(found[0])])


def counting(fmt: StageFormat) -> ScriptedModel:
    """Goes on with the next stage, and numbers what it writes."""
    count = -1

    def script(prompt: Prompt, rng: random.Random) -> str:
        nonlocal count
        count += 1
        done = sum(tag in prompt.prefix for tag in fmt.closing_tags)
        return "\n".join(f"{stage.open} {count} {stage.close}" for stage in fmt.stages[done:])

    return ScriptedModel(script)


async def run(n: int, marks: list[int], fmt: StageFormat = LLAVA_COT) -> Trace:
    sampling = Sampling(max_tokens=99)
    return await run_method("annealed-beam", counting(fmt), Marks(marks), n=n, sampling=sampling, fmt=fmt)


def test_widths_in_known_cases() -> None:
    assert [widths(n, 4) for n in (1, 2, 4, 6, 8)] == [
        [1, 1, 1, 1], [1, 1, 1, 1], [3, 2, 1, 1], [4, 3, 1, 1], [6, 4, 2, 1]
    ]  # fmt: skip
    assert [widths(4, stages) for stages in (1, 2, 3)] == [[1], [2, 1], [2, 1, 1]]


@given(st.integers(1, 60), st.integers(1, 12))
def test_a_beam_only_narrows_and_samples_no_more_than_others(n: int, stages: int) -> None:
    found = widths(n, stages)
    assert sorted(found, reverse=True) == found and found[-1] == 1 and found[0] <= n
    assert n + min(2, n) * sum(found[:-1]) <= n * stages


@given(
    st.sampled_from([LLAVA_COT, make_format("think,answer")]),
    st.integers(1, 8),
    st.lists(st.integers(0, 9), min_size=40, max_size=40),
)
async def test_by_brute_force(fmt: StageFormat, n: int, marks: list[int]) -> None:
    trace = await run(n, marks, fmt)
    following = iter(range(40))
    kept: list[tuple[int, ...]] = [()]
    for at, width in enumerate(widths(n, len(fmt.stages))):
        lines = [(*line, next(following)) for line in kept for _ in range(min(2, n) if at else n)]
        if len(lines) > width:
            lines.sort(key=lambda line: (-marks[line[-1]], line[-1]))
        kept = lines[:width]
    assert trace.chosen == kept[0]
    assert len(trace.candidates) == next(following) <= n * len(fmt.stages)


@pytest.mark.parametrize(("n", "by_round"), [(4, [4, 6, 4, 2]), (8, [8, 12, 8, 4]), (1, [1, 1, 1, 1])])
async def test_wide_at_first_and_narrow_later(n: int, by_round: list[int]) -> None:
    trace = await run(n, list(range(40)))
    assert [sum(c.round == i for c in trace.candidates) for i in range(4)] == by_round
    assert len(trace.scores) == (0 if n == 1 else sum(by_round))


async def test_an_early_winner_can_lose_later_and_a_late_one_win() -> None:
    """The thought that scores best leads to bad answers only: a beam of one is stuck with it."""

    def script(prompt: Prompt, rng: random.Random) -> str:
        if not prompt.prefix:
            return f"<think>{rng.choice(('9 tempting', '5 sound'))}</think>"
        return f"<answer>{'7 right' if 'sound' in prompt.prefix else '1 wrong'}</answer>"

    answers = []
    for seed in range(20):
        trace = await run_method(
            "annealed-beam", ScriptedModel(script), Marks(list(range(10))), n=8,
            sampling=Sampling(seed=seed), fmt=make_format("think,answer"),
        )  # fmt: skip
        answers.append(trace.answer)
        sound = sum("sound" in c.text for c in trace.candidates if c.stage == "think")
        assert trace.answer == ("7 right" if sound > 4 else "1 wrong")  # 4 of 8 are kept
    assert set(answers) == {"7 right", "1 wrong"}
