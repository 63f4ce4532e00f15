"""A judge on rollouts, against counting pairs of samples one by one."""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import Referee

from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT, make_format
from llava_cot.core.trace import Candidate
from llava_cot.data.rollouts.rollout_file import QuestionRollouts, Rollout
from llava_cot.evaluation.judge_accuracy import BEST, EVEN, JUDGE, ONE, VOTE, WHOLE, JudgedQuestion
from llava_cot.evaluation.judge_rollouts import judge_rollouts, split
from llava_cot.models.base import Prompt
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.judges.base import Judge, JudgeScore
from llava_cot.search.judges.likelihood import LikelihoodJudge
from llava_cot.search.request import make_request

FMT = make_format("look,think,answer")
Parts = tuple[str, str, str]


class ByPath(Judge):
    """Scores all of the answer so far by a function, and notes what it was shown."""

    name = "by-path"

    def __init__(self, worth: Callable[[str, str], float]) -> None:
        super().__init__()
        self.worth = worth
        self.asked: list[tuple[str, str, str]] = []

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        self.asked.append((stage, context, candidate.text))
        return JudgeScore(self.worth(stage, context + candidate.text))


def text_of(parts: Sequence[str]) -> str:
    return "\n".join(f"<{name}>{part}</{name}>" for name, part in zip(FMT.names, parts, strict=True) if part)


def rollouts(samples: dict[Parts, int], id: str = "q") -> QuestionRollouts:
    """Samples by their parts, with how often each was drawn; the answer 2 is right."""
    found = tuple(Rollout(text_of(parts), parts[2] == "2", times=n) for parts, n in samples.items())
    return QuestionRollouts(id, "How many?", "2", found)


async def judged(
    judge: Judge, *questions: QuestionRollouts, model: ScriptedModel | None = None
) -> list[JudgedQuestion]:
    request = make_request("best-of-n", judge=judge, fmt=FMT)
    return await judge_rollouts(request, model or ScriptedModel({}), judge, questions, Path(), at_once=2)


def worth(stage: str, text: str) -> float:
    """Some value of a text with many ties."""
    return float(random.Random(f"{stage} {text}").randrange(4))


parts = st.tuples(st.sampled_from("ab"), st.sampled_from("abc"), st.sampled_from("123"))


@settings(max_examples=15)
@given(st.dictionaries(parts, st.integers(1, 3), min_size=1, max_size=7))
async def test_pairs_by_the_stage_at_which_they_part(samples: dict[Parts, int]) -> None:
    [found] = await judged(ByPath(worth), rollouts(samples))
    drawn = [parts for parts, times in samples.items() for _ in range(times)]
    exact: dict[str, list[float]] = defaultdict(list)
    for right, wrong in product(drawn, repeat=2):
        if right[2] != "2" or wrong[2] == "2":
            continue
        at = next(i for i in range(3) if right[i] != wrong[i])
        ends = [text_of((*parts[: at + 1], *[""] * (2 - at))) for parts in (right, wrong)]
        x, y = (worth(FMT.names[at], end) for end in ends)
        exact[FMT.names[at]].append((x > y) + (x == y) / 2)
        x, y = worth("answer", text_of(right)), worth("answer", text_of(wrong))
        exact[WHOLE].append((x > y) + (x == y) / 2)
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for pair in found.pairs:
        sums[pair.stage][0] += pair.ordered
        sums[pair.stage][1] += pair.count
    assert dict(sums) == {stage: [sum(values), len(values)] for stage, values in exact.items()}
    for stage, texts in found.scored.items():
        assert sum(text.times for text in texts if text.right) == sum(one[2] == "2" for one in drawn), stage
        assert sum(text.times for text in texts) == len(drawn)


@settings(max_examples=15)
@given(st.dictionaries(parts, st.integers(1, 3), min_size=1, max_size=7))
async def test_what_each_way_of_choosing_gets(samples: dict[Parts, int]) -> None:
    [found] = await judged(ByPath(worth), rollouts(samples))
    drawn = [parts[2] for parts, times in samples.items() for _ in range(times)]
    most = max(map(drawn.count, drawn))
    scores = {parts: worth("answer", text_of(parts)) for parts in samples}
    favored = [parts[2] for parts, score in scores.items() if score == max(scores.values())]
    elected = {answer for answer in drawn if drawn.count(answer) == most}
    assert found.chosen == pytest.approx({
        ONE: drawn.count("2") / len(drawn),
        EVEN: sum(parts[2] == "2" for parts in samples) / len(samples),
        VOTE: ("2" in elected) / len(elected),
        JUDGE: favored.count("2") / len(favored),
        BEST: float("2" in drawn),
    })  # fmt: skip


async def test_the_judge_sees_what_a_search_would_show_it() -> None:
    judge = ByPath(worth)
    await judged(judge, rollouts({("a", "b", "2"): 2, ("a", "c", "1"): 1}))
    assert sorted(judge.asked) == sorted([
        ("look", "", "<look>a</look>"),
        ("think", "<look>a</look>", "\n<think>b</think>"),
        ("think", "<look>a</look>", "\n<think>c</think>"),
        ("answer", "<look>a</look>\n<think>b</think>", "\n<answer>2</answer>"),
        ("answer", "<look>a</look>\n<think>c</think>", "\n<answer>1</answer>"),
        ("answer", "", text_of(("a", "b", "2"))),
        ("answer", "", text_of(("a", "c", "1"))),
    ])  # fmt: skip


async def test_a_judge_that_compares_plays_some_pairs() -> None:
    """It is always right at `think`, and never at whole answers."""
    samples = {("a", f"{i}", "2" if i % 2 else "1"): 1 for i in range(8)}
    asked = rollouts(samples)

    def likes(text: str) -> float:
        whole = text.startswith("<look>")
        right = "<answer>2" in text if whole else any(f">{i}<" in text for i in (1, 3, 5, 7))
        return float(not right if whole else right)

    judge = Referee(likes)
    [found] = await judged(judge, asked)
    assert {pair.stage for pair in found.pairs} == {"think", WHOLE} and found.scored == {}
    assert [(pair.ordered, pair.count) for pair in found.pairs if pair.stage == "think"] == [(1, 1)] * 4
    assert [(pair.ordered, pair.count) for pair in found.pairs if pair.stage == WHOLE] == [(0, 1)] * 4
    assert found.chosen[JUDGE] == 0 and len(judge.duels) == 4 + 4 + 7
    assert {context for stage, context, _, _ in judge.duels if stage == "think"} == {"<look>a</look>"}
    assert [found] == await judged(Referee(likes), asked)


async def test_a_judge_that_chooses_neither_orders_half_of_the_pairs() -> None:
    [found] = await judged(Referee(lambda text: 0.0), rollouts({("a", "b", "2"): 3, ("a", "c", "1"): 2}))
    assert {pair.stage for pair in found.pairs} == {"think", WHOLE}
    assert [(pair.ordered, pair.count) for pair in found.pairs] == [(3, 6), (3, 6)]


async def test_likelihood_is_computed_anew() -> None:
    """A file has no log-probabilities of stages: the model gives them."""
    samples = {("a", "right it is", "2"): 1, ("a", "wrong", "1"): 1}

    def choose(prompt: Prompt, options: Sequence[str]) -> list[float]:
        return [-1.0 if "right" in option else -2.0 for option in options]

    model = ScriptedModel({}, choose)
    [found] = await judged(LikelihoodJudge(), rollouts(samples), model=model)
    assert all(pair.ordered == pair.count == 1 for pair in found.pairs)
    prompts = {prompt.prefix: options for prompt, options in model.choices}
    assert prompts["<look>a</look>"] == ("\n<think>wrong</think>",)
    [mean] = [text.score for text in found.scored["think"] if text.right]
    assert math.isclose(mean, -1 / 3)  # its words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<CAPTION>a</CAPTION> <CONCLUSION>b</CONCLUSION>", ["summary", "reasoning"]),
        ("no stage at all", ["summary"]),
        ("<SUMMARY>a</SUMMARY> and no more", ["summary", "caption"]),
    ],
)
def test_an_answer_is_split_as_a_search_would_sample_it(text: str, expected: list[str]) -> None:
    found = list(split(text, LLAVA_COT))
    assert [stage for stage, _, _ in found] == expected
    assert "".join(part for _, _, part in found) == text
    assert all(text.startswith(before + part) for _, before, part in found)
