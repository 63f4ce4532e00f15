"""The server with the unmodified official `openai` client."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from playing import PICTURE, WHOLE, WORDS, by_stage, remainder
from serving import ASK, PATIENCE, REASONING, Served, get, noisy, served

from llava_cot.core.trace import Trace
from llava_cot.models.base import SAMPLING_OPTIONS, Sampling
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.ask import ask_sync
from llava_cot.search.methods import METHODS
from llava_cot.server.service import ServerSettings


@pytest.fixture(scope="module")
def model() -> ScriptedModel:
    return ScriptedModel(noisy)


@pytest.fixture(scope="module")
def server(model: ScriptedModel) -> Iterator[Served]:
    with served(model) as running:
        yield running


def data_url() -> str:
    data = io.BytesIO()
    PICTURE.pil.save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def streamed(server: Served, **settings: Any) -> list[Any]:
    chunks: list[Any] = server.ask(stream=True, **settings)
    return chunks


def joined(chunks: list[Any], field: str, index: int = 0) -> str:
    deltas = [c.delta for chunk in chunks for c in chunk.choices if c.index == index]
    return "".join(getattr(delta, field, None) or "" for delta in deltas)


def test_the_conclusion_is_content_and_the_rest_is_reasoning(server: Served) -> None:
    reply = server.ask()
    [choice] = reply.choices
    assert choice.message.content.isdigit()
    assert choice.message.reasoning_content == choice.message.reasoning == REASONING
    assert (choice.finish_reason, choice.message.role, reply.model) == ("stop", "assistant", "scripted")
    assert not {"trace", "warnings"} & {*(choice.model_extra or {})}


def test_the_answer_and_the_cost_are_those_of_ask(server: Served) -> None:
    reply = server.ask(seed=5, temperature=0.2, top_p=0.8, extra_body={"include_trace": True})
    trace = Trace.model_validate(reply.choices[0].trace)
    alone = ask_sync(
        ScriptedModel(noisy), None, "How many?", sampling=Sampling(seed=5, temperature=0.2, top_p=0.8)
    )
    unlike = {"usage": {"seconds"}, "candidates": {"__all__": {"tokens"}}}
    assert trace.model_dump(exclude=unlike) == alone.model_dump(exclude=unlike)
    assert reply.choices[0].message.content == alone.answer
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (
        alone.usage.prompt_tokens,
        alone.usage.completion_tokens,
    )
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_a_top_p_of_0_is_greedy(server: Served, model: ScriptedModel) -> None:
    server.ask(model="scripted:single", temperature=0.7, top_p=0)
    assert model.calls[-1].sampling.temperature == 0


def test_every_sampling_option_reaches_the_model(server: Served, model: ScriptedModel) -> None:
    given = {"temperature": 0.4, "top_p": 0.8, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.2}
    given |= {"max_tokens": 99, "seed": 3}
    assert list(given) == list(SAMPLING_OPTIONS)
    reply = httpx.post(
        f"{server.url}/chat/completions",
        json={"model": "scripted:single", "messages": ASK, **given},
        timeout=PATIENCE,
    )
    assert reply.status_code == 200, reply.text
    sampling = model.calls[-1].sampling
    assert {name: getattr(sampling, name) for name in given if name != "seed"} == {
        name: value for name, value in given.items() if name != "seed"
    }


def test_pictures_and_texts_reach_the_model(server: Served, model: ScriptedModel) -> None:
    content = [
        {"type": "text", "text": "How"},
        {"type": "image_url", "image_url": {"url": data_url(), "detail": "low"}},
        {"type": "text", "text": "many?"},
    ]
    server.ask(
        messages=[{"role": "system", "content": "Count."}, {"role": "user", "content": content}],
        model="scripted:single",
        max_completion_tokens=77,
    )
    [message] = model.calls[-1].prompt.messages
    assert message.parts == ["Count.\nHow", PICTURE, "many?"], "in their order"
    assert model.calls[-1].sampling.max_tokens == 77
    server.ask(model="scripted:single", max_tokens=66)
    assert model.calls[-1].sampling.max_tokens == 66


PLAIN = [f"scripted:{method}" for method, kind in METHODS.items() if not (kind.requires or kind.accepts)]


@pytest.mark.parametrize("name", [*PLAIN, "scripted:best-of-3"])
def test_streaming_sends_what_a_whole_reply_has(server: Served, name: str) -> None:
    whole = server.ask(model=name)
    chunks = streamed(server, model=name)
    assert joined(chunks, "content") == whole.choices[0].message.content
    assert joined(chunks, "reasoning_content") == whole.choices[0].message.reasoning_content
    assert joined(chunks, "reasoning") == REASONING
    assert [c.choices[0].finish_reason for c in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert {(c.id, c.created) for c in chunks} == {(chunks[0].id, chunks[0].created)}
    raw = {"extra_body": {"raw": True}}
    tagged = server.ask(model=name, **raw).choices[0].message
    assert joined(streamed(server, model=name, **raw), "content") == tagged.content
    assert tagged.content.startswith("<SUMMARY>") and tagged.reasoning_content is None


def test_a_search_streams_a_stage_a_chunk_and_single_a_word(server: Served) -> None:
    reasoning = [
        c.choices[0].delta.reasoning_content
        for c in streamed(server)
        if getattr(c.choices[0].delta, "reasoning_content", None)
    ]
    first, second, third = (WORDS[stage] for stage in ("summary", "caption", "reasoning"))
    assert reasoning == [first, "\n\n" + second, "\n\n" + third]
    assert len(streamed(server, model="scripted:single")) > 10


def test_usage_is_streamed_when_it_is_asked_for(server: Served) -> None:
    assert all(chunk.usage is None for chunk in streamed(server))
    *others, last = streamed(server, stream_options={"include_usage": True})
    assert (last.choices, last.usage) == ([], server.ask().usage)
    assert all(chunk.usage is None for chunk in others)


def test_choices_differ_and_a_seed_settles_them(server: Served) -> None:
    first = server.ask(n=6, seed=3)
    answers = [choice.message.content for choice in first.choices]
    assert [choice.index for choice in first.choices] == list(range(6))
    assert len(set(answers)) > 1
    assert [c.message.content for c in server.ask(n=6, seed=3).choices] == answers
    chunks = streamed(server, n=6, seed=3)
    assert [joined(chunks, "content", index) for index in range(6)] == answers
    assert first.usage.prompt_tokens > 5 * server.ask(seed=3).usage.prompt_tokens


def test_without_a_seed_answers_differ(server: Served) -> None:
    with server.client() as client:
        replies = [client.chat.completions.create(model="scripted", messages=ASK) for _ in range(12)]
    assert len({reply.choices[0].message.content for reply in replies}) > 1


@pytest.mark.parametrize("stop", ["left", [" are", "left"], ["nowhere"]])
def test_stop_ends_the_content(stop: str | list[str]) -> None:
    conclusion = "There are two left over"
    end = {"left": "There are two ", "nowhere": conclusion}.get(stop if isinstance(stop, str) else stop[0])
    with served(ScriptedModel(remainder(WHOLE.replace(" 2 <", f" {conclusion} <")))) as server:
        settings = {"model": "scripted:single", "stop": stop}
        assert server.ask(**settings).choices[0].message.content == (end or "There")
        assert joined(streamed(server, **settings), "content") == (end or "There")
        raw = settings | {"stop": "</CAPTION>", "extra_body": {"raw": True}}
        whole = server.ask(**raw).choices[0].message.content
        assert whole.endswith("3 cubes. ") and joined(streamed(server, **raw), "content") == whole


def test_the_trace_is_streamed_at_the_end(server: Served) -> None:
    *others, last = streamed(server, extra_body={"include_trace": True})
    assert Trace.model_validate(last.choices[0].trace).method == "stage-beam"
    assert not any("trace" in (c.choices[0].model_extra or {}) for c in others)


@pytest.mark.parametrize(
    ("name", "search", "method", "n", "judge"),
    [
        ("scripted", None, "stage-beam", 2, "self"),
        ("scripted:single", None, "single", 1, None),
        ("scripted:stage-beam-4", None, "stage-beam", 4, "self"),
        ("scripted:best-of-8", None, "best-of-n", 8, "self"),
        ("scripted:best-of-n", None, "best-of-n", 2, "self"),
        ("scripted:majority-3", None, "majority", 3, None),
        ("scripted:greedy", None, "single", 1, None),
        ("scripted:best-of-3@logits", None, "best-of-n", 3, "logits"),
        ("scripted:stage-beam-3", {"judge": "likelihood"}, "stage-beam", 3, "likelihood"),
        ("scripted", {"method": "best-of-n", "n": 5, "judge": "logits"}, "best-of-n", 5, "logits"),
        ("scripted", {"n": 3}, "stage-beam", 3, "self"),
    ],
)
def test_the_method_is_chosen_by_name_or_by_search(
    server: Served, name: str, search: Any, method: str, n: int, judge: str | None
) -> None:
    body = {"include_trace": True} | ({"search": search} if search else {})
    reply = server.ask(model=name, extra_body=body)
    trace = reply.choices[0].trace
    assert (trace["method"], trace["n"], trace["judge"]) == (method, n, judge)
    assert reply.model == name


@pytest.mark.parametrize(
    ("name", "search", "n"),
    [
        ("scripted", None, 8),
        ("scripted", {"method": "majority"}, 8),
        ("scripted", {"method": "single"}, 1),
        ("scripted", {"n": 3}, 3),
        ("scripted:best-of-4", None, 4),
    ],
)
def test_effort_is_the_number_of_candidates_where_none_is_named(
    server: Served, name: str, search: Any, n: int
) -> None:
    body = {"include_trace": True} | ({"search": search} if search else {})
    reply = server.ask(model=name, reasoning_effort="high", extra_body=body)
    assert reply.choices[0].trace["n"] == n


def test_the_models_are_listed_and_every_name_answers(server: Served) -> None:
    with server.client() as client:
        names = [model.id for model in client.models.list()]
        assert {"scripted", "scripted:single", "scripted:stage-beam-4", "scripted:best-of-8"} <= set(names)
        assert client.models.retrieve("scripted:best-of-7").id == "scripted:best-of-7"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-4o")
    for name in names:
        assert server.ask(model=name).choices[0].message.content.isdigit()


def test_raw_may_be_the_server_s_way() -> None:
    with served(ScriptedModel(remainder(WHOLE)), ServerSettings(raw=True)) as server:
        message = server.ask().choices[0].message
        assert (message.content, message.reasoning_content) == (WHOLE, None)
        assert server.ask(extra_body={"raw": False}).choices[0].message.content == WORDS["conclusion"]


def test_an_answer_that_is_cut_off_says_so() -> None:
    with served(ScriptedModel(remainder(WHOLE))) as server:
        [choice] = server.ask(model="scripted:single", max_tokens=5).choices
        assert (choice.message.content, choice.finish_reason) == ("", "length")
        chunks = streamed(server, model="scripted:single", max_tokens=5)
        assert chunks[-1].choices[0].finish_reason == "length"


def test_so_does_one_of_which_an_earlier_stage_was_cut_off() -> None:
    long = by_stage(WORDS | {"reasoning": "on and on " * 9})
    with served(ScriptedModel(long)) as server:
        [choice] = server.ask(max_tokens=9).choices
        assert (choice.message.content, choice.finish_reason) == (WORDS["conclusion"], "length")
        assert streamed(server, max_tokens=9)[-1].choices[0].finish_reason == "length"
        [warning] = choice.warnings
        assert warning["kind"] == "cut" and "the reasoning was cut off" in warning["text"]


def test_text_without_stages_is_the_answer_and_a_warning_says_so() -> None:
    with served(ScriptedModel(remainder("I cannot see it."))) as server:
        [choice] = server.ask().choices
        assert (choice.message.content, choice.message.reasoning_content) == ("I cannot see it.", None)
        *others, last = streamed(server)
        assert joined([*others, last], "content") == "I cannot see it."
        assert choice.warnings == last.choices[0].warnings
        [warning] = choice.warnings
        assert warning["kind"] == "no-stages" and "none of the stages" in warning["text"]
        assert not any("warnings" in (chunk.choices[0].model_extra or {}) for chunk in others)


def test_what_it_does_is_counted(server: Served) -> None:
    count = server.counted
    before = count('llava_cot_questions_total{outcome="answered"}'), count("llava_cot_tokens_total")
    reply = server.ask()
    assert count('llava_cot_questions_total{outcome="answered"}') == before[0] + 1
    assert count("llava_cot_tokens_total") == before[1] + reply.usage.total_tokens
    assert count("llava_cot_running") == count("llava_cot_waiting") == 0
    assert count("process_resident_memory_bytes") > 1e6
    assert get(f"{server.root}/health").json() == {"status": "ok"}


def test_a_key_guards_the_api_and_nothing_else() -> None:
    with served(ScriptedModel(noisy), ServerSettings(api_key="sésame")) as server:
        for key in ("wrong", "sesame"):
            with server.client(api_key=key) as client, pytest.raises(openai.AuthenticationError) as caught:
                client.chat.completions.create(model="scripted", messages=ASK)
            assert caught.value.code == "invalid_api_key"
        right = {"Authorization": "Bearer sésame".encode()}
        assert get(f"{server.url}/models", headers=right).status_code == 200
        assert get(f"{server.url}/models").status_code == 401
        assert get(f"{server.root}/health").status_code == 200
