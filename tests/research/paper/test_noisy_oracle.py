"""The noisy oracle: how often it errs, and that it errs in the same way each time."""

import math
from itertools import pairwise

import pytest
from playing import registering, run_method, tagged

from llava_cot.core.question import Question
from llava_cot.core.trace import Candidate
from llava_cot.models.base import Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.judges import JUDGES
from llava_cot.search.judges.verifier import VerifierJudge
from llava_cot.search.request import parse_spec
from research.paper.noisy_oracle import PERCENTS, NoisyOracle, noise_scale, register_noisy_oracles

MANY = 4000
WITHIN = 4 * math.sqrt(0.25 / MANY)  # four standard errors


def candidate(answer: str, number: int) -> Candidate:
    text = tagged("caption", str(number)) + tagged("conclusion", answer)
    return Candidate(id=0, parent=None, round=0, stage="answer", text=text, completion_tokens=1, finish="eos")


def asked(number: int) -> Question:
    return Question("How many?", id=f"q{number}", reference="2")


@pytest.mark.parametrize("errors", [0.0, 0.1, 0.3, 0.5])
async def test_it_errs_at_its_rate(errors: float) -> None:
    judge = NoisyOracle(errors=errors)
    wrong = scored_wrong = 0
    for i in range(MANY):
        right, other = candidate("2", i), candidate("3", i)
        found = await judge.prefer(asked(i), "answer", "", right, other, seed=i)
        wrong += found.choice == 2
        x, y = [await judge.score(asked(i), "answer", "", one, seed=i) for one in (right, other)]
        scored_wrong += x.value < y.value
    assert abs(wrong / MANY - errors) < WITHIN
    assert abs(scored_wrong / MANY - errors) < WITHIN
    assert errors or (not wrong and not scored_wrong)


async def test_it_says_the_same_each_time_and_in_either_order() -> None:
    judge, other_seed = NoisyOracle(errors=0.4), NoisyOracle(errors=0.4, seed=1)
    differ = 0
    for i in range(200):
        a, b = candidate("2", i), candidate("3", i)
        first = (await judge.prefer(asked(i), "answer", "", a, b, seed=1)).choice
        assert (await NoisyOracle(errors=0.4).prefer(asked(i), "answer", "", a, b, seed=2)).choice == first
        assert (await judge.prefer(asked(i), "answer", "", b, a, seed=3)).choice == {1: 2, 2: 1}[first or 0]
        differ += (await other_seed.prefer(asked(i), "answer", "", a, b, seed=1)).choice != first
        score = await judge.score(asked(i), "answer", "", a, seed=4)
        assert score == await NoisyOracle(errors=0.4).score(asked(i), "answer", "", a, seed=5)
    assert 0 < differ < 200


async def test_what_the_truth_does_not_decide_stays_undecided_and_without_errors_it_is_the_verifier() -> None:
    same = candidate("2", 0), candidate("two", 1)
    found = await NoisyOracle(errors=0.5).prefer(asked(0), "answer", "", *same, seed=0)
    assert found.choice is None
    pair = candidate("2", 0), candidate("3", 0)
    for judge in (NoisyOracle(), VerifierJudge()):
        assert (await judge.prefer(asked(0), "answer", "", *pair, seed=0)).choice == 1
        assert [(await judge.score(asked(0), "answer", "", one, seed=0)).value for one in pair] == [1, 0]


def test_more_errors_need_more_noise() -> None:
    scales = [noise_scale(errors) for errors in (0.0, 0.01, 0.1, 0.3, 0.49, 0.5)]
    assert all(a < b for a, b in pairwise(scales)) and math.isinf(scales[-1])
    for errors in (-0.1, 0.51):
        with pytest.raises(ValueError, match="give a number from 0 to "):
            NoisyOracle(errors=errors)


async def test_specs_name_it_once_it_is_registered_and_no_list_of_judges_does() -> None:
    assert not any(name.startswith("noisy") for name in JUDGES)
    with registering():
        assert register_noisy_oracles() == [f"noisy-oracle-{percent}" for percent in PERCENTS]
        spec = parse_spec("best-of-4@noisy-oracle-20")
        assert (spec.judge, spec.n, spec.name) == ("noisy-oracle-20", 4, "best-of-4@noisy-oracle-20")
        made = JUDGES["noisy-oracle-20"].make
        assert isinstance(made, type) and issubclass(made, NoisyOracle)
        assert (made().errors, made().name) == (0.2, "noisy-oracle-20")
    assert not any(name.startswith("noisy") for name in JUDGES)


async def test_a_search_gains_less_with_more_errors() -> None:
    answers = ["2", "3", "3", "3"]
    right = dict.fromkeys((0.0, 0.2, 0.5), 0)
    for errors in right:
        for seed in range(150):
            left = [tagged("caption", str(seed)) + tagged("conclusion", answer) for answer in answers]
            model = ScriptedModel(lambda prompt, rng, left=left: left.pop())
            trace = await run_method(
                "best-of-n", model, NoisyOracle(errors=errors), n=4, question=asked(seed),
                sampling=Sampling(seed=seed),
            )  # fmt: skip
            right[errors] += trace.answer == "2"
    # The wrong answers have one text: it is preferred to the right one, or it is not.
    assert right[0.0] == 150
    assert all(abs(right[errors] - 150 * (1 - errors)) < 25 for errors in (0.2, 0.5))
