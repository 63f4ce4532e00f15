"""What an answer comes with when its search did less than requested, or its model does not know enough."""

from __future__ import annotations

import random
from typing import Any

import pytest
from playing import (
    PICTURE,
    WHOLE,
    WORDS,
    Referee,
    by_stage,
    continuation,
    new_search,
    remainder,
    run_method,
    tagged,
)

from llava_cot import Sampling, ask, make_format
from llava_cot.core.trace import Trace
from llava_cot.models.base import Prompt
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.answer_warnings import was_cut
from llava_cot.search.methods import METHODS
from llava_cot.search.restaging import keep_as

PLAIN = ScriptedModel(lambda prompt, rng: "" if prompt.prefix else "A cat on a mat. It is black.")


def kinds(trace: Trace) -> list[str]:
    assert Trace.model_validate_json(trace.model_dump_json()) == trace
    return [warning.kind for warning in trace.warnings]


def sentence(trace: Trace) -> str:
    [warning] = trace.warnings
    return warning.text


async def test_a_whole_answer_has_none() -> None:
    for method in ("single", "stage-beam", "best-of-n", "majority", "stage-wise-beam", "sentence-beam"):
        assert kinds(await run_method(method, ScriptedModel(remainder(WHOLE)))) == []
    assert "warnings" not in (await run_method("single", ScriptedModel(remainder(WHOLE)))).model_dump()


@pytest.mark.parametrize("method", ["single", "stage-beam", "best-of-n", "sentence-beam", "staged-prompt"])
async def test_no_stage(method: str) -> None:
    trace = await run_method(method, PLAIN)
    assert trace.answer == trace.text.strip() and kinds(trace) == ["no-stages"]
    assert "none of the stages summary, caption, reasoning, conclusion was found" in sentence(trace)
    assert ("round" in sentence(trace)) == (METHODS[method].judge is not None)
    assert ("--stages prompted asks" in sentence(trace)) == (method != "staged-prompt")


async def test_no_stage_of_another_format() -> None:
    trace = await run_method("single", ScriptedModel(remainder(WHOLE)), fmt=make_format("think,answer"))
    assert kinds(trace) == ["no-stages"] and "think, answer" in sentence(trace)


async def test_nothing_at_all() -> None:
    trace = await run_method("single", ScriptedModel(lambda prompt, rng: "  "))
    assert trace.answer is None and sentence(trace) == "the answer is empty"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (tagged("summary", "a") + tagged("conclusion", "2"), "absent from the answer: caption, reasoning"),
        (
            tagged("reasoning", "a"),
            "the conclusion is absent, so there is no answer (also absent: summary, caption)",
        ),
        (WHOLE.replace("> 2 <", "> <"), "the conclusion is empty, so there is no answer"),
    ],
)
async def test_absent_stages(written: str, words: str) -> None:
    trace = await run_method("single", ScriptedModel(remainder(written)))
    assert kinds(trace) == ["absent-stages"] and sentence(trace) == words


async def test_methods_that_fill_some_stages_by_themselves_leave_out_others_on_purpose() -> None:
    plain = ScriptedModel(lambda prompt, rng: "It is 2. The answer is 2.")
    assert kinds(await run_method("cot", plain)) == []
    assert kinds(await run_method("direct", plain)) == []
    assert kinds(await run_method("prism", plain, reasoner=plain)) == []
    search = new_search()
    keep_as(search, continuation("a thought"), {"reasoning": "a thought"})
    assert sentence(search.finish()) == "the conclusion is absent, so there is no answer"


async def test_a_stage_that_was_cut() -> None:
    model = ScriptedModel(by_stage(WORDS | {"reasoning": "3 minus 1 is 2. " * 9}))
    trace = await run_method("stage-beam", model, sampling=Sampling(max_tokens=12))
    assert was_cut(trace) and trace.answer == "2" and kinds(trace) == ["cut"]
    assert sentence(trace) == "the reasoning was cut off at the token limit (max_tokens 12)"
    trace = await run_method("single", model, sampling=Sampling(max_tokens=12))
    assert was_cut(trace) and kinds(trace) == ["absent-stages", "cut"]
    assert trace.warnings[1].text.startswith("the answer was cut off")


async def test_an_answer_of_sentences_that_used_up_its_tokens() -> None:
    model = ScriptedModel(lambda prompt, rng: "<SUMMARY> One thing. " if not prompt.prefix else " One more. ")
    trace = await run_method("sentence-beam", model, sampling=Sampling(max_tokens=7))
    assert was_cut(trace) and "cut" in kinds(trace)


async def test_a_loser_that_was_cut() -> None:
    def write(prompt: Prompt, rng: random.Random) -> str:
        return WHOLE if rng.random() < 0.5 else "<SUMMARY> on and on " + "and on " * 40

    judge = Referee(lambda text: -len(text))
    for seed in range(9):
        how = Sampling(max_tokens=60, seed=seed)
        trace = await run_method("best-of-n", ScriptedModel(write), judge, n=4, sampling=how)
        if "cut" in kinds(trace) and not was_cut(trace):
            [text] = [warning.text for warning in trace.warnings if warning.kind == "cut"]
            assert "of 4 candidates ran into the token limit (max_tokens 60); none of them is in" in text
            return
    raise AssertionError("no such search")


async def test_a_judge_that_chooses_nothing() -> None:
    def write(prompt: Prompt, rng: random.Random) -> str:
        if "I choose response" in prompt.messages[-1].text:
            return "Both are fine."
        return f"{tagged('summary', str(rng.random()))}" + WHOLE.partition("</SUMMARY>")[2]

    trace = await run_method("best-of-n", ScriptedModel(write), n=3)
    assert kinds(trace) == ["no-choice"]
    assert sentence(trace) == "the judge self chose neither candidate in 2 of 2 duels, so chance decided"


async def test_a_tie_of_scores_is_a_verdict() -> None:
    trace = await run_method("best-of-n", ScriptedModel(remainder(WHOLE)), Referee(lambda text: 1.0), n=3)
    assert kinds(trace) == []


async def test_a_budget_for_one_candidate() -> None:
    trace = await ask(ScriptedModel(remainder(WHOLE)), None, "q", n=8, budget=40)
    assert "not-compared" in kinds(trace)
    assert (
        trace.warnings[-1].text == "the budget of 40 tokens paid for one candidate a round: nothing compared"
    )


async def test_greedy_candidates_are_one() -> None:
    trace = await ask(ScriptedModel(remainder(WHOLE)), None, "q", n=3, sampling=Sampling(temperature=0))
    assert kinds(trace) == ["not-compared"] and "at temperature 0" in sentence(trace)
    trace = await ask(ScriptedModel(remainder(WHOLE)), None, "q", n=1, sampling=Sampling(temperature=0))
    assert kinds(trace) == []


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (None, "there is no picture"),
        (PICTURE, "the picture does not look like one"),
        ([PICTURE] * 2, "one pic"),
    ],
)
async def test_a_model_of_one_subject(image: Any, words: str) -> None:
    model = ScriptedModel(remainder(WHOLE))
    assert kinds(await ask(model, image, "How many?")) == []
    model.domain = "scenes"  # type: ignore[attr-defined]
    trace = await ask(model, image, "How many?")
    assert kinds(trace) == ["unfamiliar"]
    assert sentence(trace).startswith("scripted knows llava-cot's scenes of geometric objects alone, and ")
    assert words in sentence(trace)
