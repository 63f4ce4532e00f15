"""The judge that knows the truth: stage-level search with it finds the right answer among wrong ones."""

import random

import pytest

from llava_cot import ask
from llava_cot.core.question import Question
from llava_cot.core.stages import parse, render
from llava_cot.core.trace import Candidate
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.scenes.ground_truth import GAP, better, worth
from llava_cot.scenes.items import make_item
from llava_cot.scenes.teacher import ORDINALS
from llava_cot.search.judges.verifier import VerifierJudge

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


async def test_of_other_questions_the_reference_tells_of_conclusions() -> None:
    async def prefer(question: Question, a: str, b: str) -> int | None:
        sides = [
            Candidate(id=i, parent=None, round=0, stage="conclusion", text=f"<CONCLUSION>{text}</CONCLUSION>")
            for i, text in enumerate((a, b))
        ]
        return (await VerifierJudge().prefer(question, "conclusion", "", *sides, seed=0)).choice

    asked = Question("How many?", id="q/1", reference="3")
    assert await prefer(asked, "three", "4") == 1
    assert await prefer(asked, "4", "There are 3.") == 2
    assert await prefer(asked, "4", "5") is None
    with pytest.raises(ValueError, match="needs a question with a reference answer"):
        await prefer(Question("How many?"), "3", "4")


def test_what_an_answer_is_worth_by_itself_agrees_with_the_order() -> None:
    captions = (ITEM.stages["caption"], spoiled(ITEM.stages["caption"]), "A picture of a cube.", None)
    values = [worth(QUESTION, "caption", answer(caption=caption)) for caption in captions]
    assert values[:2] == [0, -1]
    assert values[2] == values[3] < -GAP * 10
    long = "There are 10 objects. From left to right: " + ", ".join(
        f"{ORDINALS[i]} a small blue rubber cube" for i in range(10)
    )
    assert values[3] < worth(QUESTION, "caption", answer(caption=f"{long}.")) < -1
    for text in (None, "No.", "Nothing is 1."):
        assert worth(QUESTION, "reasoning", answer(reasoning=text)) == 0
    assert worth(QUESTION, "reasoning", answer(caption="unread", conclusion=None)) == 1
    for stage in ("answer", "conclusion", "summary", "sentence"):
        assert worth(QUESTION, stage, answer()) == 1
        assert worth(QUESTION, stage, answer(conclusion="none of it")) == 0
        assert worth(QUESTION, stage, answer(conclusion=None)) == 0


async def test_scores_by_the_reference_are_of_conclusions() -> None:
    judge, asked = VerifierJudge(), Question("Which?", options=("left", "right"), reference="B")
    for stage, text, value in (
        ("conclusion", "<CONCLUSION>right</CONCLUSION>", 1),
        ("answer", "<CAPTION>x</CAPTION><CONCLUSION>B</CONCLUSION>", 1),
        ("answer", "<CONCLUSION>left</CONCLUSION>", 0),
        ("caption", "<CAPTION>right</CAPTION>", 0),
        ("reasoning", "<REASONING>So B.</REASONING>", 0),
    ):
        candidate = Candidate(id=0, parent=None, round=0, stage=stage, text=text)
        found = await judge.score(asked, stage, "<SUMMARY>B</SUMMARY>", candidate, seed=0)
        assert (found.value, found.usage.model_calls) == (value, 0)
    with pytest.raises(ValueError, match="needs a question with a reference answer"):
        await judge.score(Question("Which?"), "answer", "", candidate, seed=0)


@pytest.mark.parametrize("method", ["best-of-n", "stage-beam", "weighted-best-of-n"])
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
        trace = await ask(
            ScriptedModel(script),
            None,
            QUESTION,
            method=method,
            n=3,
            judge="verifier",
            sampling=Sampling(seed=seed),
        )
        assert trace.answer == ITEM.answer
        assert trace.judge == "verifier"
