"""Prism: who sees what, what becomes of it, what it costs."""

from dataclasses import replace

import pytest
from playing import PICTURE, WHOLE, tagged
from prompted import SAMPLING, run, says, seen, words

from llava_cot.core.question import Question
from llava_cot.core.stages import make_format
from llava_cot.models.base import Message
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.methods.prism import ABOVE_ALL, DESCRIBE, LOOK_FOR
from llava_cot.view.describe import describe_request

CHOICE = Question("Which way?", (PICTURE, PICTURE), options=("left", "right"))


def sees_no_picture(model: ScriptedModel) -> bool:
    return all(not message.images for messages in seen(model) for message in messages)


async def test_one_model_describes_and_the_other_answers_from_the_description_alone() -> None:
    model, reasoner = says(" 3 cubes. ", name="eye"), says("3 - 1 is 2.\nAnswer: 2", name="mind")
    trace = await run("prism", model, reasoner=reasoner)
    assert seen(model) == [(Message("user", DESCRIBE, (PICTURE,)),)]
    [[asked]] = seen(reasoner)
    assert (asked.role, asked.images) == ("user", ())
    assert "Description:\n3 cubes.\n\nQuestion:\nHow many are left?\n" in asked.text
    assert trace.text == "\n\n".join(
        (
            tagged("caption", "3 cubes."),
            tagged("reasoning", "3 - 1 is 2.\nAnswer: 2"),
            tagged("conclusion", "2"),
        )
    )
    assert [(c.id, c.parent, c.round, c.stage) for c in trace.candidates] == [
        (0, None, 0, "caption"),
        (1, 0, 1, "reasoning"),
    ]
    assert (trace.model, trace.reasoner, trace.method, trace.judge) == ("eye", "mind", "prism", None)
    assert (trace.chosen, trace.answer, trace.stages["summary"]) == ((0, 1), "2", None)
    assert describe_request(trace).startswith("model eye · reasoner mind · prism")


async def test_the_describer_is_not_told_the_question_and_the_reasoner_is_shown_no_picture() -> None:
    for method, replies in (("prism", ("Answer: A",)), ("prism-query", ("the arrow", "Answer: A"))):
        model, reasoner = says("An arrow."), says(*replies)
        trace = await run(method, model, CHOICE, reasoner=reasoner)
        [[asked]] = seen(model)
        assert asked.images == (PICTURE, PICTURE)
        assert not any(word in asked.text for word in ("Which way", "A. left", "B. right"))
        assert sees_no_picture(reasoner)
        assert "Which way?\nA. left\nB. right" in words(reasoner.calls[-1].prompt)
        assert "A or B" in words(reasoner.calls[-1].prompt)
        assert (trace.answer, trace.stages["reasoning"]) == ("A", None)


async def test_with_a_query_the_reasoner_first_says_what_to_look_for() -> None:
    model, reasoner = says("3 cubes."), says("the number of cubes", "3 - 1 is 2.\nAnswer: 2")
    trace = await run("prism-query", model, reasoner=reasoner)
    first, second = seen(reasoner)
    assert first == (Message("user", f"{LOOK_FOR}\n\nQuestion:\nHow many are left?"),)
    assert seen(model) == [(Message("user", f"{DESCRIBE}{ABOVE_ALL}the number of cubes", (PICTURE,)),)]
    assert "the number of cubes" not in second[0].text and "3 cubes." in second[0].text
    assert [(c.stage, c.text if not c.id else "") for c in trace.candidates] == [
        ("instruction", "the number of cubes"),
        ("caption", ""),
        ("reasoning", ""),
    ]
    assert (trace.chosen, trace.answer, trace.stages["caption"]) == ((1, 2), "2", "3 cubes.")
    assert trace.candidates[1].parent is None


@pytest.mark.parametrize(
    ("method", "replies", "calls"),
    [
        ("prism", ("Answer: 2",), 2),
        ("prism", ("It is 2", "2"), 3),
        ("prism-query", ("cubes", "Answer: 2"), 3),
        ("prism-query", ("cubes", "It is 2", "2"), 4),
    ],
)
async def test_what_it_costs_is_the_calls_of_both(method: str, replies: tuple[str, ...], calls: int) -> None:
    model, reasoner = says("3 cubes."), says(*replies)
    trace = await run(method, model, reasoner=reasoner)
    made = [*model.calls, *reasoner.calls]
    assert trace.usage.model_calls == len(made) == calls
    assert trace.usage.prompt_tokens == sum(model.count_tokens(call.prompt) for call in made)
    assert trace.usage.completion_tokens == sum(c.completion_tokens for c in trace.candidates)
    assert {replace(call.sampling, seed=5) for call in made} == {SAMPLING}
    assert len({call.sampling.seed for call in made}) == calls
    assert trace.answer == "2"


async def test_an_answer_that_cannot_be_read_is_asked_for_without_a_picture_too() -> None:
    model, reasoner = says("3 cubes."), says("One goes, two stay.", "2")
    trace = await run("prism", model, reasoner=reasoner)
    first, second = seen(reasoner)
    assert second[:2] == (*first, Message("assistant", "One goes, two stay."))
    assert sees_no_picture(reasoner)
    assert (trace.stages["reasoning"], trace.answer) == ("One goes, two stay.", "2")


@pytest.mark.parametrize("method", ["prism", "prism-query"])
async def test_without_a_picture_there_is_nothing_to_describe(method: str) -> None:
    model, reasoner = says(), says("1 + 1.\nAnswer: 2")
    trace = await run(method, model, Question("1 + 1?"), reasoner=reasoner)
    assert model.calls == [] and trace.usage.model_calls == 1
    assert "escription" not in words(reasoner.calls[0].prompt)
    assert (trace.stages["caption"], trace.answer) == (None, "2")


async def test_models_that_answer_in_stages_are_taken_at_their_word() -> None:
    model, blind = says(WHOLE), says(WHOLE.replace("3 cubes", "no cubes").replace("2", "0"))
    trace = await run("prism", model, reasoner=blind)
    assert "Description:\nThere are 3 cubes.\n" in words(blind.calls[0].prompt)
    assert trace.stages == {
        "summary": None, "caption": "There are 3 cubes.", "reasoning": "3 minus 1 is 0.", "conclusion": "0",
    }  # fmt: skip
    assert trace.usage.model_calls == 2


async def test_one_model_may_be_both() -> None:
    model = says("3 cubes.", "Answer: 2", name="both")
    trace = await run("prism", model, reasoner=model)
    assert [messages[0].images for messages in seen(model)] == [(PICTURE,), ()]
    assert (trace.model, trace.reasoner, trace.answer) == ("both", "both", "2")


async def test_other_formats() -> None:
    async def written(stages: str, *replies: str) -> tuple[str, tuple[int, ...]]:
        trace = await run("prism", says("3 cubes."), fmt=make_format(stages), reasoner=says(*replies))
        assert trace.candidates[0].text.find("3 cubes.") >= 0
        return trace.text, trace.chosen

    reply = "3 - 1.\nAnswer: 2"
    assert await written("think,answer", reply) == (f"<think> {reply} </think>\n\n<answer> 2 </answer>", (1,))
    assert await written("look,think,answer", reply) == (
        f"<look> 3 cubes. </look>\n\n<think> {reply} </think>\n\n<answer> 2 </answer>",
        (0, 1),
    )
    assert await written("answer", reply, "2") == ("<answer> 2 </answer>", (2,))
    assert await written("answer", "Answer: 2") == ("<answer> 2 </answer>", (1,))
    assert await written("answer", "<answer>2</answer>") == ("<answer> 2 </answer>", (1,))


async def test_nothing_described_is_still_answered() -> None:
    reasoner = says("Answer: 2")
    trace = await run("prism", says(""), reasoner=reasoner)
    assert "escription" not in words(reasoner.calls[0].prompt)
    assert (trace.answer, trace.usage.model_calls) == ("2", 2)
