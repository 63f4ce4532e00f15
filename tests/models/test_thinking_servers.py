"""Models behind servers that think before they answer: reasoning parsers, going on inside the thinking."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from endpoint_double import Double, configure

from llava_cot.core.stages import THINKING, validate
from llava_cot.core.trace import Trace
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.registry import open_endpoint, open_model
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.ask import ask
from llava_cot.search.search import TextDelta

QUESTION = "How many cubes are there?"
THOUGHT = "There is a red cube.\n\nThere is a blue one. That makes two.\n"
WHOLE = f"{THOUGHT}</think>\n\nI see two cubes."
PARSERS = ("reasoning", "reasoning_content", "")


def thinker(prompt: Prompt, rng: random.Random) -> str:
    text = prompt.messages[-1].text
    if "I choose response" in text:
        verdict = "I choose response 1."
        return verdict if "</think>" in prompt.prefix else f"Hm.\n</think>\n\n{verdict}"
    if "Write the answer now" in text:
        return "Again.\n</think>\n\n2"
    if WHOLE.startswith(prompt.prefix):
        return WHOLE[len(prompt.prefix) :]
    return "It is 2." if "</think>" in prompt.prefix else " but why?\n</think>\n\nIt is 2."


async def answer(double: Double, **options: Any) -> Trace:
    model = open_model(double.url)
    try:
        return await ask(model, None, QUESTION, fmt=THINKING, **options)
    finally:
        model.close()


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("way", ["continue", "trailing", "none"])
@pytest.mark.parametrize("stops", ["kept", "named", "silent"])
async def test_the_thinking_is_a_stage(parser: Any, way: Any, stops: Any) -> None:
    with Double(ScriptedModel(thinker), way, parser=parser, stops=stops) as double:
        for method in ("single", "stage-beam", "sentence-beam", "majority"):
            trace = await answer(double, method=method)
            assert trace.staging == "thinking" and not validate(trace.text, THINKING)
            assert trace.stages == {"thinking": THOUGHT.strip(), "answer": "I see two cubes."}, method


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(("way", "inside"), [("continue", True), ("continue", False), ("none", True)])
async def test_what_is_found_out(parser: Any, way: Any, inside: bool) -> None:
    with Double(ScriptedModel(thinker), way, parser=parser, inside=inside) as double:
        model = open_endpoint(double.url)
        able = way == "continue" and inside
        assert model.thinks(THINKING) and model.continues_thinking is able  # type: ignore[union-attr]
        said = next(line for line in model.describe().splitlines() if line.startswith("thinking"))
        assert ("field" in said) == bool(parser) and ("not continued" in said) != able
        model.close()
        before = len(double.bodies)
        open_model(double.url).close()
        assert len(double.bodies) == before, "it is saved"


async def test_a_model_that_does_not_think_costs_no_request() -> None:
    with Double(ScriptedModel(lambda prompt, rng: "It is 2.")) as double:
        model = open_endpoint(double.url)
        assert not any("The line is" in json.dumps(body) for body in double.bodies)
        assert not model.thinks(THINKING)  # type: ignore[union-attr]
        model.close()
        assert (await answer(double, method="single")).staging == "prompted"


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("way", ["continue", "none"])
@pytest.mark.parametrize("method", ["single", "stage-beam"])
async def test_the_thinking_is_cut_closed_and_answered(parser: Any, way: Any, method: str) -> None:
    with Double(ScriptedModel(thinker), way, parser=parser) as double:
        trace = await answer(double, method=method, n=1, think_tokens=4)
        last = double.bodies[-1]["messages"]
    assert not validate(trace.text, THINKING) and trace.stages["thinking"] == "There is a red"
    if way == "continue":
        assert trace.answer == "It is 2."
        assert last[-1] == {"role": "assistant", "content": "<think>\nThere is a red\n</think>"}
    else:
        assert trace.answer == "2"
        assert "Write the answer now" in last[-1]["content"]


async def test_a_thought_that_is_too_short_goes_on() -> None:
    with Double(ScriptedModel(thinker), parser="reasoning") as double:
        trace = await answer(double, method="stage-beam", n=1, min_think_tokens=16)
    assert trace.stages["thinking"] == f"{THOUGHT.strip()}\n\nWait, but why?" and trace.answer == "It is 2."


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("way", ["continue", "none"])
async def test_it_is_streamed(parser: Any, way: Any) -> None:
    texts: list[str] = []
    with Double(ScriptedModel(thinker), way, parser=parser) as double:
        trace = await answer(
            double,
            method="single",
            on_event=lambda event: texts.append(event.text) if isinstance(event, TextDelta) else None,
        )
    assert "".join(texts) in (trace.text, "")
    assert way == "none" or len(texts) > (5 if parser else 2)


async def test_the_judge_does_not_think() -> None:
    with Double(ScriptedModel(thinker), parser="reasoning") as double:
        trace = await answer(double, n=2, sampling=Sampling(temperature=1))
        duels = [body for body in double.bodies if "I choose response" in json.dumps(body)]
    assert trace.warnings == () or {found.kind for found in trace.warnings} == {"not-compared"}
    assert all(body["messages"][-1]["content"] == "<think>\n</think>\n\n" for body in duels)


async def test_arguments_of_the_chat_template(tmp_path: Path) -> None:
    with Double(ScriptedModel(thinker), parser="reasoning") as double:
        configure(
            tmp_path,
            f"providers: {{own: {{url: '{double.url}', "
            "chat_template_kwargs: {depth: 1, enable_thinking: true}}}\n",
        )
        open_model("own").close()
        assert {str(body["chat_template_kwargs"]) for body in double.bodies} == {
            "{'depth': 1, 'enable_thinking': True}"
        }
        double.bodies.clear()
        model = open_model("own", chat_template_kwargs={"enable_thinking": False})
        await model.sample(Prompt.of(QUESTION), 1, Sampling())
        model.close()
        assert len(double.bodies) > 1, "what was found out with other arguments does not count"
        assert {str(body["chat_template_kwargs"]) for body in double.bodies} == {
            "{'depth': 1, 'enable_thinking': False}"
        }
