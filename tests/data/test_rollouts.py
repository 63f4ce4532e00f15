"""Sampled answers and completions of one question, by models whose outcomes are known."""

import random
from math import sqrt

import pytest
from playing import PICTURE, WORDS, remainder, tagged

from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT
from llava_cot.data.rollouts.rollouts import complete_prefixes, prefixes_of, sample_answers
from llava_cot.errors import ModelError
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel

QUESTION = Question("How many are left?", (PICTURE,), "q", (), "2")
SAMPLING = Sampling(seed=3)
# The chance of a right answer by the word of the caption, and of that word.
RIGHT = {"sharp": 0.9, "dim": 0.2}
SHARP = 0.25


def script(prompt: Prompt, rng: random.Random) -> str:
    """Writes the stages that are missing; its reasoning decides whether the answer is right."""
    text = prompt.prefix
    for stage in LLAVA_COT.names[sum(tag in text for tag in LLAVA_COT.closing_tags) :]:
        if stage == "caption":
            words = "sharp" if rng.random() < SHARP else "dim"
        elif stage == "reasoning":
            chance = next(chance for word, chance in RIGHT.items() if word in text)
            words = "two" if rng.random() < chance else "three"
        elif stage == "conclusion":
            words = "2" if "two" in text else "3"
        else:
            words = "so"
        text += ("\n\n" if text else "") + tagged(stage, words)
    return text[len(prompt.prefix) :]


def answer(*words: str) -> str:
    return "\n\n".join(tagged(stage, word) for stage, word in zip(LLAVA_COT.names, words, strict=False))


async def test_distinct_answers_are_counted() -> None:
    model = ScriptedModel(script)
    found = await sample_answers(model, QUESTION, 400, SAMPLING)
    assert [(call.n, call.prompt.messages[0].text) for call in model.calls] == [(400, QUESTION.text)]
    assert len({one.text for one in found.answers}) == len(found.answers) == 4
    assert sum(one.times for one in found.answers) == found.usage.model_calls == 400
    assert all(one.logprob == -len(one.text) for one in found.answers)
    times = {one.text: one.times for one in found.answers}
    expected = 400 * SHARP * RIGHT["sharp"]
    assert abs(times[answer("so", "sharp", "two", "2")] - expected) < 4 * sqrt(expected)


async def test_the_share_of_right_completions_is_the_value_of_a_beginning() -> None:
    model = ScriptedModel(script)
    expected = {
        answer("so"): SHARP * RIGHT["sharp"] + (1 - SHARP) * RIGHT["dim"],
        answer("so", "sharp"): RIGHT["sharp"],
        answer("so", "dim"): RIGHT["dim"],
        answer("so", "dim", "two"): 1.0,
        answer("so", "sharp", "three"): 0.0,
    }
    found = await complete_prefixes(model, QUESTION, [*expected], 400, SAMPLING)
    for one, share in zip(found, expected.values(), strict=True):
        assert one.right + one.wrong == one.usage.model_calls == 400
        assert abs(one.right / 400 - share) <= 4 * sqrt(share * (1 - share) / 400)
    assert [call.prompt.prefix for call in model.calls] == [*expected]
    [alone] = await complete_prefixes(model, QUESTION, [answer("so", "dim")], 400, SAMPLING)
    assert alone == found[2]  # whatever else is completed


async def test_an_answer_whose_words_do_not_tell_is_neither_right_nor_wrong() -> None:
    model = ScriptedModel(remainder(answer("so", "so", "so", "a settee")))
    question = Question("What is it?", reference="sofa")
    [found] = await complete_prefixes(model, question, [answer("so")], 3, SAMPLING)
    assert (found.right, found.wrong, found.usage.model_calls) == (0, 0, 3)


async def test_a_model_without_stages_is_prompted_for_those_that_are_missing() -> None:
    model = ScriptedModel(lambda prompt, rng: WORDS["conclusion"], staged=False)
    [one] = (await sample_answers(model, QUESTION, 2, SAMPLING)).answers
    assert one.times == 2 and one.text == answer("2", "2", "2", "2")
    model.calls.clear()
    [found] = await complete_prefixes(model, QUESTION, [answer("so", "so")], 2, SAMPLING)
    assert (found.right, found.wrong) == (2, 0)
    assert {call.prompt.prefix[len(answer("so", "so")) :].count("<") for call in model.calls} == {1, 3}
    assert len(model.calls) == 4  # two stages, twice


async def test_an_option_that_a_model_ignores_is_refused() -> None:
    model = ScriptedModel(script, sampling_options=())
    with pytest.raises(ModelError, match="top_k"):
        await sample_answers(model, QUESTION, 1, Sampling(top_k=5))
    with pytest.raises(ModelError, match="top_k"):
        await complete_prefixes(model, QUESTION, [answer("so")], 1, Sampling(top_k=5))


def test_beginnings_end_with_their_stages() -> None:
    whole = answer("a", "b", "c", "2")
    assert prefixes_of(whole) == {
        "summary": answer("a"),
        "caption": answer("a", "b"),
        "reasoning": answer("a", "b", "c"),
        "conclusion": None,
    }
    assert prefixes_of(answer("a", "b") + "\n\n<REASONING> c") == {
        "summary": answer("a"),
        "caption": answer("a", "b"),
    }
    assert prefixes_of(answer("a") + "\n") == {"summary": None}
    assert prefixes_of(whole + " and so on")["conclusion"] is None
    assert prefixes_of("2") == {}
