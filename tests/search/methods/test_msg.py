"""msg: one sample whose stages are forced."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from playing import PICTURE, QUESTION, WHOLE, WORDS, remainder

from llava_cot import ask, open_model
from llava_cot.core.question import Question, load_image
from llava_cot.core.stages import LLAVA_COT, validate
from llava_cot.errors import RequestError
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.scenes.items import make_items
from llava_cot.search.search import Event, TextDelta
from llava_cot.search.stage_constraints import stage_grammar, stage_schema

OPTIONS = ("two", "three")


async def test_a_model_that_takes_a_grammar_writes_the_tags_itself() -> None:
    model, events = ScriptedModel(remainder(WHOLE)), list[Event]()
    trace = await ask(
        model,
        None,
        QUESTION,
        method="msg",
        sampling=Sampling(temperature=0.3, max_tokens=50),
        on_event=events.append,
    )
    [call] = model.calls
    assert call.prompt == Prompt.of(QUESTION.text, (PICTURE,))
    assert call.sampling.constraint == stage_grammar(LLAVA_COT)
    assert (call.n, call.sampling.temperature, call.sampling.max_tokens) == (1, 0.3, 50)
    assert (trace.text, trace.answer, trace.method, trace.n, trace.judge) == (WHOLE, "2", "msg", 1, None)
    assert trace.candidates[0].tokens
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == WHOLE


async def test_a_model_that_takes_json_alone_is_told_so_and_its_reply_is_put_into_tags() -> None:
    model = ScriptedModel(lambda prompt, rng: json.dumps(WORDS), constraints=("json",))
    asked = Question("How many?", (PICTURE,), options=OPTIONS)
    trace = await ask(model, None, asked, method="msg")
    [call] = model.calls
    [message] = call.prompt.messages
    assert message.text.startswith("How many?\nA. two\nB. three\n\nAnswer in JSON")
    assert "summary, caption, reasoning, conclusion" in message.text
    assert message.images == (PICTURE,)
    assert call.sampling.constraint == stage_schema(LLAVA_COT, OPTIONS)
    assert trace.stages == WORDS and validate(trace.text) == []
    [candidate] = trace.candidates
    assert candidate.tokens == () and candidate.completion_tokens > 0


async def test_json_that_was_cut_keeps_what_there_is() -> None:
    model = ScriptedModel(lambda prompt, rng: json.dumps(WORDS), constraints=("json",))
    trace = await ask(model, None, "How many?", method="msg", sampling=Sampling(max_tokens=8))
    assert trace.candidates[0].finish == "length"
    assert trace.stages == {
        "summary": WORDS["summary"],
        "caption": "There are 3",
        "reasoning": None,
        "conclusion": None,
    }
    assert validate(trace.text)[0].kind == "unclosed"


async def test_options_are_in_the_grammar() -> None:
    model = ScriptedModel(remainder(WHOLE))
    await ask(model, None, Question("How many?", options=OPTIONS), method="msg")
    assert model.calls[0].sampling.constraint == stage_grammar(LLAVA_COT, OPTIONS) != stage_grammar(LLAVA_COT)


@pytest.mark.parametrize("forms", [("grammar", "json"), ("json",)])
async def test_it_costs_one_call(forms: tuple[str, ...]) -> None:
    model = ScriptedModel(remainder(WHOLE), constraints=forms)  # type: ignore[arg-type]
    trace = await ask(model, None, QUESTION, method="msg")
    assert trace.usage.model_calls == len(model.calls) == len(trace.candidates) == 1
    assert trace.usage.completion_tokens == trace.candidates[0].completion_tokens


async def test_a_model_that_can_force_nothing_is_refused_before_any_call() -> None:
    model, events = ScriptedModel(remainder(WHOLE), constraints=()), list[Event]()
    with pytest.raises(
        RequestError, match="msg needs constrained decoding, which scripted does not have"
    ) as told:
        await ask(model, None, "q", method="msg", on_event=events.append)
    assert model.calls == [] and events == [] and "\n" not in str(told.value)


async def test_the_built_in_model_answers_as_it_does_unforced() -> None:
    """Greedy, mini keeps to the form by itself, so that forcing it changes nothing, tokens included."""
    with closing(open_model("mini", device="cpu")) as model:
        [item] = make_items("test", 3, 1)
        asked = Question(item.question.text, (load_image(item.picture()),), options=item.question.options)
        free = await ask(model, None, asked, method="single", sampling=Sampling(temperature=0))
        forced = await ask(model, None, asked, method="msg", sampling=Sampling(temperature=0))
    assert validate(free.text) == []
    assert forced.text == free.text and forced.candidates[0].tokens == free.candidates[0].tokens
    assert forced.candidates[0].logprob == pytest.approx(free.candidates[0].logprob, abs=2e-3)
