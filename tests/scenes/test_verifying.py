"""The judge that knows the truth: stage-level search with it finds the right answer among wrong ones."""

import random

import pytest

from llava_cot import ask
from llava_cot.judges.verifier import VerifierJudge
from llava_cot.models.base import Prompt
from llava_cot.models.scripted import ScriptedModel
from llava_cot.question import Question
from llava_cot.scenes.verifying import better
from llava_cot.scenes.write import make_item
from llava_cot.stages import LLAVA_COT, parse, render

ITEM = make_item("validation", 0, 3)
QUESTION = Question(ITEM.question.text, (), ITEM.id, ITEM.question.options, ITEM.answer)
SHAPES = ("cube", "sphere", "cylinder")


def answer(**other: str | None):
    return parse(render({**ITEM.stages, **other}))


def spoiled(caption: str) -> str:
    """The caption with its first shape taken for another."""
    found = min((caption.index(shape), shape) for shape in SHAPES if shape in caption)[1]
    other = next(shape for shape in SHAPES if shape != found)
    return caption.replace(found, other, 1)


def test_a_right_conclusion_is_better_whatever_came_before() -> None:
    wrong = answer(conclusion="something else")
    for stage in ("answer", "conclusion", "caption"):
        assert better(QUESTION, stage, answer(caption=None), wrong) == 1
        assert better(QUESTION, stage, wrong, answer(caption=None)) == 2
    assert better(QUESTION, "conclusion", answer(), answer()) is None


def test_a_caption_is_better_by_its_errors_and_one_that_cannot_be_read_is_the_worst() -> None:
    true = answer(reasoning=None, conclusion=None)
    false = answer(caption=spoiled(ITEM.stages["caption"]), reasoning=None, conclusion=None)
    unread = answer(caption="A picture.", reasoning=None, conclusion=None)
    order = [true, false, unread]
    for i, a in enumerate(order):
        for j, b in enumerate(order):
            expected = None if i == j else 1 if i < j else 2
            assert better(QUESTION, "caption", a, b) == expected


def test_a_reasoning_is_better_if_its_first_fault_comes_later() -> None:
    true = answer(conclusion=None)
    false = answer(reasoning="Nothing of that is there.", conclusion=None)
    assert better(QUESTION, "reasoning", true, false) == 1
    assert better(QUESTION, "reasoning", false, true) == 2


def test_only_scenes_are_known() -> None:
    with pytest.raises(ValueError, match="scenes alone"):
        better(Question("What is this?", id="q/1"), "answer", answer(), answer())


@pytest.mark.parametrize("method", ["best-of-n", "stage-beam"])
async def test_a_search_with_it_keeps_what_is_true(method: str) -> None:
    """Of three samples one is right, and never the first two; a caption counts where it is searched."""
    false = {"caption": spoiled(ITEM.stages["caption"]), "reasoning": "Nothing is there.", "conclusion": "no"}
    texts = [render(answer(**false)), render(answer(**false)), render(answer())]
    drawn = 0

    def script(prompt: Prompt, rng: random.Random) -> str:
        nonlocal drawn
        drawn += 1
        fitting = [text for text in texts if text.startswith(prompt.prefix)]
        return fitting[drawn % len(fitting)].removeprefix(prompt.prefix)

    for seed in range(8):
        judge = VerifierJudge(better, LLAVA_COT)
        trace = await ask(ScriptedModel(script), None, QUESTION, method=method, n=3, judge=judge, seed=seed)
        assert trace.answer == ITEM.answer
        assert trace.judge == "verifier"
