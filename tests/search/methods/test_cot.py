"""Chain of thought and the staged prompt: what each call sees, what becomes of it, what it costs."""

from dataclasses import replace

import pytest
from PIL import Image
from playing import PICTURE, QUESTION, WHOLE, tagged
from prompted import SAMPLING, run, says, seen

from llava_cot import ask
from llava_cot.core.question import Question, load_image
from llava_cot.core.stages import LLAVA_COT, Stage, StageFormat, make_format
from llava_cot.models.base import Message, Sampling
from llava_cot.search.methods.cot import THINK
from llava_cot.search.resources import Example, Resources
from llava_cot.search.search import Event, TextDelta
from llava_cot.search.stage_prompting import tagged_instruction

BLUE = load_image(Image.new("RGB", (5, 5), "blue"))
EXAMPLES = (
    Example(Question("How many cubes?", (BLUE, PICTURE)), "Two here, one there. The answer is 3."),
    Example(Question("Which?", (BLUE,), options=("red", "blue")), "It is blue. The answer is B."),
)
CHOICE = Question("Which way?", (PICTURE,), options=("left", "right"))
ASKED = Message("user", "How many are left?", (PICTURE,))


async def test_zero_shot_asks_for_a_thought_and_then_for_its_answer() -> None:
    model = says("There are 3, one goes. ", "The answer is 2.")
    trace = await run("cot", model)
    first, second = seen(model)
    assert first == (Message("user", f"How many are left?\n\n{THINK}", (PICTURE,)),)
    assert second[:2] == (*first, Message("assistant", "There are 3, one goes."))
    assert second[2].role == "user" and second[2].images == () and "briefly" in second[2].text
    assert trace.text == f"{tagged('reasoning', 'There are 3, one goes.')}\n\n{tagged('conclusion', '2')}"
    assert trace.stages == {
        "summary": None, "caption": None, "reasoning": "There are 3, one goes.", "conclusion": "2",
    }  # fmt: skip
    assert [(c.id, c.parent, c.round, c.stage) for c in trace.candidates] == [
        (0, None, 0, "reasoning"),
        (1, 0, 1, "conclusion"),
    ]
    assert (trace.chosen, trace.answer, trace.judge, trace.reasoner) == ((0, 1), "2", None, None)
    assert all(c.tokens == () and c.completion_tokens > 0 for c in trace.candidates)


async def test_the_answer_to_a_choice_is_asked_for_by_its_letter() -> None:
    model = says("It goes right.", "B")
    trace = await run("cot", model, CHOICE)
    first, second = seen(model)
    assert first[0].text == f"Which way?\nA. left\nB. right\n\n{THINK}"
    assert "A or B" in second[-1].text
    assert trace.answer == "B"


async def test_what_it_costs_is_two_calls_and_all_their_tokens() -> None:
    model = says("There are 3, one goes.", "2")
    trace = await run("cot", model)
    assert trace.usage.model_calls == len(model.calls) == 2
    assert trace.usage.prompt_tokens == sum(model.count_tokens(call.prompt) for call in model.calls)
    assert (
        trace.usage.completion_tokens == sum(c.completion_tokens for c in trace.candidates) == 5 + 1 + 1 + 1
    )
    settings = [call.sampling for call in model.calls]
    assert [replace(s, seed=5) for s in settings] == [SAMPLING, SAMPLING]
    assert len({s.seed for s in settings}) == 2


async def test_no_thought_is_no_turn() -> None:
    model = says(" \n", "2")
    trace = await run("cot", model)
    _, [alone] = seen(model)
    assert (alone.role, alone.images) == ("user", (PICTURE,))
    assert alone.text.startswith(f"How many are left?\n\n{THINK}\n\nTherefore")
    assert (trace.stages["reasoning"], trace.answer, trace.chosen) == (None, "2", (1,))


async def test_no_answer_is_none() -> None:
    trace = await run("cot", says("Hm.", ""))
    assert (trace.answer, trace.stages["reasoning"], trace.usage.model_calls) == (None, "Hm.", 2)


async def test_a_model_that_answers_in_stages_by_itself_is_left_alone() -> None:
    model = says(WHOLE)
    trace = await run("cot", model)
    assert (trace.text, trace.answer, trace.usage.model_calls) == (WHOLE, "2", 1)
    assert trace.candidates[0].tokens != ()


async def test_stages_without_an_answer_are_kept_and_the_answer_is_asked_for() -> None:
    begun = f"{tagged('caption', '3 cubes')} {tagged('reasoning', '3 - 1 = 2')}"
    model = says(begun, f"{tagged('summary', 'again')} {tagged('conclusion', '2')}")
    trace = await run("cot", model)
    assert (trace.stages["caption"], trace.stages["reasoning"], trace.answer) == ("3 cubes", "3 - 1 = 2", "2")
    assert (trace.stages["summary"], trace.usage.model_calls) == (None, 2)
    assert seen(model)[1][1] == Message("assistant", begun)


async def test_few_shot_shows_each_example_with_its_pictures_and_then_asks() -> None:
    model = says("Red and green are left.\nThe answer is 2.")
    trace = await run("cot-few-shot", model, examples=EXAMPLES)
    assert seen(model) == [
        (
            Message("user", "How many cubes?", (BLUE, PICTURE)),
            Message("assistant", "Two here, one there. The answer is 3."),
            Message("user", "Which?\nA. red\nB. blue", (BLUE,)),
            Message("assistant", "It is blue. The answer is B."),
            ASKED,
        )
    ]
    assert (trace.stages["reasoning"], trace.answer) == ("Red and green are left.\nThe answer is 2.", "2")
    assert (trace.chosen, trace.usage.model_calls) == ((0,), 1)
    assert [image.sha256 for image in trace.question.images] == [PICTURE.sha256]


async def test_few_shot_asks_for_an_answer_that_cannot_be_read() -> None:
    model = says("Red and green are left.", "2")
    trace = await run("cot-few-shot", model, examples=EXAMPLES)
    first, second = seen(model)
    assert second[: len(first) + 1] == (*first, Message("assistant", "Red and green are left."))
    assert len(second) == len(first) + 2
    assert (trace.stages["reasoning"], trace.answer) == ("Red and green are left.", "2")
    assert trace.usage.model_calls == 2


async def test_an_answer_alone_is_no_reasoning() -> None:
    trace = await run("cot-few-shot", says("The answer is 2."), examples=EXAMPLES)
    assert (trace.text, trace.usage.model_calls) == (tagged("conclusion", "2"), 1)


@pytest.mark.parametrize("method", ["cot", "cot-few-shot"])
async def test_other_formats(method: str) -> None:
    more = {"examples": EXAMPLES} if method == "cot-few-shot" else {}
    trace = await run(method, says("Hm.", "2"), fmt=make_format("think,answer"), **more)
    assert trace.text == "<think> Hm. </think>\n\n<answer> 2 </answer>"
    alone = await run(method, says("Hm. The answer is 3.", "2"), fmt=make_format("answer"), **more)
    assert (alone.text, alone.chosen, alone.usage.model_calls) == ("<answer> 2 </answer>", (1,), 2)
    assert alone.candidates[0].text == "Hm. The answer is 3."
    first = StageFormat((Stage("answer", "<a>", "</a>"), Stage("why", "<w>", "</w>")), final="answer")
    assert (await run(method, says("Hm.", "2"), fmt=first, **more)).text == "<a> 2 </a>"


async def test_the_staged_prompt_is_one_call_with_picture_instruction_and_question() -> None:
    model = says(WHOLE)
    events: list[Event] = []
    trace = await run("staged-prompt", model, CHOICE, on_event=events.append)
    [[asked]] = seen(model)
    assert (asked.role, asked.images) == ("user", (PICTURE,))
    told, _, question = asked.text.partition("\n\nQuestion:\n")
    assert question == "Which way?\nA. left\nB. right"
    places = [told.index(tag) for stage in LLAVA_COT.stages for tag in (stage.open, stage.close)]
    assert places == sorted(places)
    assert "A or B" in told.splitlines()[-1]
    assert (trace.text, trace.answer, trace.usage.model_calls) == (WHOLE, "2", 1)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == WHOLE
    assert trace.candidates[0].tokens != ()


async def test_the_staged_prompt_reads_a_reply_as_any_other() -> None:
    trace = await run("staged-prompt", says("Sure!\n<reasoning> 3 - 1\n<Conclusion> 2"))
    assert (trace.stages["reasoning"], trace.answer) == ("3 - 1", "2")
    assert (await run("staged-prompt", says("It is 2."))).answer == "It is 2."


def test_unknown_stages_are_told_by_name_and_place() -> None:
    lines = tagged_instruction(QUESTION, make_format("plan=[[ ]],reasoning,verdict")).splitlines()[1:]
    assert lines[0] == '[[ the part called "plan", which comes first ]]'
    assert (
        lines[1]
        == '<reasoning> the part called "reasoning", which follows the part called "plan" </reasoning>'
    )
    assert lines[2].startswith('<verdict> the part called "verdict": the answer alone')
    later = StageFormat((Stage("answer", "<a>", "</a>"), Stage("why", "<w>", "</w>")), final="answer")
    assert tagged_instruction(QUESTION, later).endswith(
        '<w> the part called "why", which follows the part called "answer" </w>'
    )


async def test_mini_can_be_asked() -> None:
    from llava_cot.models.registry import open_model
    from llava_cot.scenes.items import make_item

    model = open_model("mini")
    asked = make_item("test", 0, 0).ask()
    extras = Resources(examples=(Example(make_item("train", 0, 0).ask(), "I count. The answer is 2."),))
    for method in ("staged-prompt", "cot", "cot-few-shot"):
        trace = await ask(
            model, None, asked, method=method, sampling=Sampling(max_tokens=40), resources=extras
        )
        assert trace.usage.model_calls == len(trace.candidates) in (1, 2)
        assert "".join(trace.candidates[i].text for i in trace.chosen) == trace.text
    trace = await ask(
        model,
        None,
        asked,
        method="prism",
        sampling=Sampling(max_tokens=40),
        resources=Resources(reasoner=model),
    )
    assert (trace.model, trace.reasoner) == ("mini", "mini")
    assert len(trace.candidates) in (2, 3)  # a third one if the second names no answer
