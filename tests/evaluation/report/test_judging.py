"""What the searches of a report say of judges, against counting by hand."""

import random
from itertools import combinations

import pytest
from playing import run_method, tagged

from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT, StageFormat, make_format, parse
from llava_cot.core.trace import Trace
from llava_cot.evaluation.judge_accuracy import WHOLE, OrderedPairs
from llava_cot.evaluation.report.arms import Arm
from llava_cot.evaluation.report.judging import ArmJudging, even_units, judges_table
from llava_cot.evaluation.types import RunKey
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.judges.base import Judge, JudgeScore

ASKED = Question("How many?", reference="2")


def right(text: str, fmt: StageFormat) -> float | None:
    """2 is right, and of "some" the words do not tell."""
    answer = parse(text, fmt).answer
    return None if answer == "some" else float(answer == "2")


def writes(*answers: str) -> ScriptedModel:
    left = [tagged("caption", f"{i}") + tagged("conclusion", answer) for i, answer in enumerate(answers)]
    return ScriptedModel(lambda prompt, rng: left.pop(0))


async def best_of(judge: Judge | None, *answers: str, method: str = "best-of-n") -> Trace:
    return await run_method(method, writes(*answers), judge, n=len(answers), question=ASKED)


class Likes(Judge):
    """Scores the conclusion by a table."""

    name = "likes"

    def __init__(self, **scores: float) -> None:
        super().__init__()
        self.scores = scores

    async def score(self, question, stage, context, candidate, *, seed) -> JudgeScore:  # type: ignore[no-untyped-def]
        return JudgeScore(self.scores[f"a{parse(context + candidate.text, LLAVA_COT).answer}"])


async def test_duels_between_right_and_wrong_are_counted() -> None:
    for scores, share in (((1, 0), 1.0), ((0, 1), 0.0), ((0, 0), 0.5)):
        judging = ArmJudging()
        judging.add("q", await best_of(Likes(a2=scores[0], a3=scores[1]), "2", "3"), right)
        assert judging.pairs == [OrderedPairs("q", WHOLE, share, 1)]
        assert judging.decided.total() == 1 and not judging.scored


async def test_scores_of_all_pairs_are_counted() -> None:
    judging = ArmJudging()
    answers = ("2", "3", "2", "4", "some")
    likes = Likes(a2=0.5, a3=0.9, a4=0.1, asome=0.7)
    judging.add("q", await best_of(likes, *answers, method="weighted-best-of-n"), right)
    assert sorted(pair.ordered for pair in judging.pairs) == [0, 0, 1, 1]  # each 2 with 3 and with 4
    assert sorted((text.right, text.score) for text in judging.scored[WHOLE]) == [
        (False, 0.1), (False, 0.9), (True, 0.5), (True, 0.5),
    ]  # fmt: skip
    assert not judging.even  # one is not known


async def test_an_even_choice_is_among_different_answers() -> None:
    left = [tagged("conclusion", answer) for answer in ("2", "2", "2", "3")]
    trace = await run_method(
        "majority", ScriptedModel(lambda prompt, rng: left.pop()), n=4, question=ASKED
    )  # fmt: skip
    judging = ArmJudging()
    assert even_units(judging) == []
    judging.add("q", trace, right)
    judging.add("another", await best_of(Likes(a3=0), "3", "3"), right)
    assert [(unit.key, unit.value) for unit in even_units(judging)] == [("q", 0.5), ("another", 0)]


class LikesThree(Judge):
    name = "likes-three"

    async def score(self, question, stage, context, candidate, *, seed) -> JudgeScore:  # type: ignore[no-untyped-def]
        return JudgeScore(float("3" in candidate.text))


@pytest.mark.parametrize("seed", range(5))
async def test_of_a_beam_the_candidates_that_conclude_count(seed: int) -> None:
    fmt = make_format("think,answer")

    def script(prompt: Prompt, rng: random.Random) -> str:
        begun = "" if prompt.prefix else f"<think>{rng.random()}</think>"
        return begun or f"<answer>{rng.choice('123')}</answer>"

    trace = await run_method(
        "stage-wise-beam", ScriptedModel(script), n=6, question=ASKED, fmt=fmt, sampling=Sampling(seed=seed),
        judge=LikesThree(),
    )  # fmt: skip
    judging = ArmJudging()
    judging.add("q", trace, right)
    assert {pair.stage for pair in judging.pairs} <= {"answer"}
    exact = []
    values = {score.candidate: score.value for score in trace.scores}
    for a, b in combinations((c for c in trace.candidates if c.stage == "answer"), 2):
        known = ["2" in c.text for c in (a, b)]
        if a.parent == b.parent and known[0] != known[1]:
            x, y = (values[c.id] for c in ((a, b) if known[0] else (b, a)))
            exact.append((x > y) + (x == y) / 2)
    assert sorted(pair.ordered for pair in judging.pairs) == sorted(exact)


async def test_one_sample_has_nothing_to_tell() -> None:
    judging = ArmJudging()
    judging.add("q", await run_method("single", writes("2"), question=ASKED), right)
    assert judging == ArmJudging()


async def test_the_table() -> None:
    arm, other = (Arm((RunKey("b", "m", method, 0),), ([],), (), ()) for method in ("best-of-2", "single"))
    judging = {arm: ArmJudging(), other: ArmJudging()}
    assert judges_table([arm, other], judging) is None
    for i in range(4):
        judging[arm].add(f"q{i}", await best_of(Likes(a2=i, a3=1.5), "2", "3"), right)
    table = judges_table([arm, other], judging)
    assert table is not None and table.names == 2
    [row] = table.rows
    assert [cell.text for cell in row] == ["best-of-2", WHOLE, "4", "50.0", "–"]
    assert row[3].below == "15.0 to 85.0"
