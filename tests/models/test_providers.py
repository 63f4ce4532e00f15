"""Providers as they are: models that take few options, replies that are no answers, closed accounts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from endpoint_double import Double

from llava_cot.errors import ModelError, ModelRefusal, ModelUnavailable, ServerFailure, ServerRefusal
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.endpoint import capabilities
from llava_cot.models.endpoint.balancing import BalancedModel
from llava_cot.models.endpoint.client import EndpointModel
from llava_cot.models.endpoint.config import Provider
from llava_cot.models.scripted import ScriptedModel

QUESTION = Prompt.of("How many?")
WORDS = "There are two cubes left."
NO_TEMPERATURE = "Unsupported value: 'temperature' does not support 0.7. Only the default is supported."
NOT_BOTH = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."


def double(**more: Any) -> Double:
    script = ScriptedModel(lambda prompt, rng: WORDS, lambda prompt, options: [-1.0, -2.0])
    return Double(script, **more)


@contextmanager
def opened(server: Double) -> Iterator[EndpointModel]:
    with closing(EndpointModel(Provider(url=server.url), None, {})) as model:
        server.bodies.clear()
        yield model


# What models take


@pytest.mark.parametrize(
    ("refuses", "taken"),
    [
        ({}, ("temperature", "top_p")),
        ({"temperature": (400, NO_TEMPERATURE)}, ("top_p",)),
        ({"temperature+top_p": (400, NOT_BOTH)}, ("temperature",)),
        ({"temperature": (400, NO_TEMPERATURE), "top_p": (400, "'top_p' is not supported.")}, ()),
        ({"temperature": (422, "temperature: extra fields not permitted"), "top_p": (404, "no")}, ()),
    ],
)
@pytest.mark.parametrize("temperature", [0.0, 0.6])
async def test_temperature_and_top_p_are_sent_as_far_as_the_model_takes_them(
    refuses: dict[str, tuple[int, str]],
    taken: tuple[str, ...],
    temperature: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with double(refuses=refuses) as server, opened(server) as model:
        assert model.capabilities.randomness == taken
        samples = await model.sample(QUESTION, 2, Sampling(temperature=temperature, top_p=0.9))
        assert [sample.text for sample in samples] == [WORDS] * 2
        for body in server.bodies:
            assert {"temperature", "top_p"} & set(body) == set(taken)
        for told, words in ((model.describe(), "since the model refuses it: "), (caplog.text, "refuses ")):
            left_out = " and ".join(name for name in ("temperature", "top_p") if name not in taken)
            assert (words + left_out in told) == (len(taken) < 2)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "This model does not support logprobs."),
        (403, "You are not allowed to request logprobs from this model"),
        (404, "No endpoints found that can handle the requested parameters."),
        (422, "extra fields not permitted"),
        (500, "logprobs is not supported by the engine"),
    ],
)
@pytest.mark.parametrize("field", ["logprobs", "n", "stop", "response_format"])
async def test_a_refused_option_is_left_out_whatever_the_status(status: int, words: str, field: str) -> None:
    message = words.replace("logprobs", f"'{field}'")
    with double(refuses={field: (status, message)}) as server, opened(server) as model:
        found = model.capabilities
        if field == "logprobs":
            assert found.top_logprobs == 0
        elif field == "n":
            assert not found.many
        elif field == "stop":
            assert not found.stops
        samples = await model.sample(QUESTION, 3, Sampling(stop=("zzz",)))
        assert [sample.text for sample in samples] == [WORDS] * 3
        assert not any(field in body for body in server.bodies)


async def test_an_internal_error_that_names_no_field_leaves_the_option_out_for_now() -> None:
    with double(refuses={"logprobs": (500, "Internal server error")}) as server:
        with opened(server) as model:
            assert model.capabilities.top_logprobs == 0
            assert await model.sample(QUESTION, 1, Sampling())
        server.refuses = {}
        with opened(server) as model:  # nothing was saved that a passing failure may have caused
            assert model.capabilities.top_logprobs == 20


async def test_the_newer_token_limit_and_its_least_value_are_met() -> None:
    with double(limit="max_completion_tokens", least=17) as server, opened(server) as model:
        assert model.capabilities.limit == "max_completion_tokens"
        assert model.capabilities.many and model.capabilities.choice_tokens >= 17
        assert await model.choose(QUESTION, ("1", "2")) == [-1.0, -2.0]
        await model.sample(QUESTION, 1, Sampling(max_tokens=50))
        assert server.bodies[-1]["max_completion_tokens"] == 50


async def test_a_model_that_reasons_first_is_probed_with_enough_tokens() -> None:
    with double(thinks=1000, stops="named") as server, opened(server) as model:
        found = model.capabilities
        assert (found.prefix, found.many, found.stops) == ("continue", True, True)
        [cut] = await model.sample(QUESTION, 1, Sampling(max_tokens=100))
        assert (cut.text, cut.finish) == ("", "length")


async def test_a_model_opens_if_a_plain_question_is_answered() -> None:
    allowed = {"model", "messages", "max_tokens"}
    others = {
        name: (400, f"'{name}' is not supported with this model")
        for name in ("seed", "n", "stop", "logprobs", "temperature", "top_p", "response_format",
                     "continue_final_message", "top_k", "min_p", "repetition_penalty", "repeat_penalty")
    }  # fmt: skip
    with double(way="none", refuses=others) as server, opened(server) as model:
        [sample] = await model.sample(QUESTION, 1, Sampling(stop=("zzz",), top_p=0.5))
        assert sample.text == WORDS
        assert set(server.bodies[-1]) == allowed


def test_the_list_of_models_may_be_forbidden() -> None:
    with double() as server:
        server.lists = False
        with closing(EndpointModel(Provider(url=server.url), "scripted", {})) as model:
            assert model.name == "scripted"


# What replies are


STREAMED = [None, lambda text: None]


@pytest.mark.parametrize("on_text", STREAMED, ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", ["error", "aborted", "tools", "empty", "error in 200"])
async def test_a_reply_that_is_no_answer_is_requested_again(fault: Any, on_text: Any) -> None:
    with double() as server, opened(server) as model:
        server.faults.extend([fault, fault])
        [sample] = await model.sample(QUESTION, 1, Sampling(), on_text)
        assert (sample.text, sample.finish, len(server.bodies)) == (WORDS, "eos", 3)


@pytest.mark.parametrize("on_text", STREAMED, ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("error", "its reply ended with error: Provider disconnected"),
        ("aborted", "its reply ended with abort"),
        ("tools", "it called a tool instead of answering"),
        ("empty", "its reply has no choices"),
        ("error in 200", ": Provider returned error"),
    ],
)
async def test_and_fails_with_its_reason_in_the_end(fault: Any, words: str, on_text: Any) -> None:
    with double() as server, opened(server) as model:
        server.faults.extend([fault] * 99)
        with pytest.raises(ServerFailure, match=f"failed at 12 attempts: .*{words}"):
            await model.sample(QUESTION, 1, Sampling(), on_text)
        assert len(server.bodies) == 12


@pytest.mark.parametrize("on_text", STREAMED, ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("refusal", "scripted at http.* refused to answer: I'm sorry, I can't help"),
        ("refusal part", "refused to answer: I'm sorry, I can't help"),
        ("filter", "gave no answer .finish_reason content_filter: a filter stopped it"),
        ("flagged", "refused: it answered 400: The prompt triggered a filter"),
    ],
)
async def test_a_refusal_is_a_refusal_and_is_not_requested_again(
    fault: Any, words: str, on_text: Any
) -> None:
    with double() as server, opened(server) as model:
        server.faults.append(fault)
        with pytest.raises(ModelRefusal, match=words):
            await model.sample(QUESTION, 1, Sampling(), on_text)
        assert len(server.bodies) == 1


@pytest.mark.parametrize("on_text", STREAMED, ids=["whole", "streamed"])
async def test_parts_are_joined_and_thinking_is_no_part_of_the_answer(on_text: Any) -> None:
    with double() as server, opened(server) as model:
        server.faults.append("parts")
        [sample] = await model.sample(QUESTION, 1, Sampling(), on_text)
        assert (sample.text, sample.finish) == (WORDS, "eos")


@pytest.mark.parametrize("on_text", STREAMED, ids=["whole", "streamed"])
async def test_an_end_for_an_unknown_reason_is_not_complete(on_text: Any) -> None:
    with double() as server, opened(server) as model:
        server.faults.append("odd")
        [sample] = await model.sample(QUESTION, 1, Sampling(), on_text)
        assert (sample.text, sample.finish) == (WORDS, "length")


@pytest.mark.parametrize("fault", ["ping", "unstreamed"])
async def test_a_stream_may_hold_other_events_or_be_a_whole_reply(fault: Any) -> None:
    pieces: list[str] = []
    with double() as server, opened(server) as model:
        server.faults.append(fault)
        [sample] = await model.sample(QUESTION, 1, Sampling(), pieces.append)
        assert (sample.text, sample.finish, len(server.bodies)) == (WORDS, "eos", 1)
        assert "".join(pieces) == WORDS and sample.completion_tokens == server.usages[-1]["completion_tokens"]


async def test_options_are_not_scored_by_a_reply_that_is_no_answer() -> None:
    with double() as server, opened(server) as model:
        server.faults.append("filter")
        with pytest.raises(ModelRefusal):
            await model.choose(QUESTION, ("1", "2"))


# Accounts


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("quota", "it answered 429: You exceeded your current quota, please check your plan"),
        ("401", "it answered 401.*; put the right key into"),
        ("402", "it answered 402"),
        ("403", "it answered 403.*; check the key in"),
        ("no model", "it answered 404: The model 'big' does not exist"),
    ],
)
async def test_a_closed_account_is_told_at_the_first_reply(fault: Any, words: str) -> None:
    with double() as server, opened(server) as model:
        server.faults.extend([fault] * 99)
        with pytest.raises(ModelUnavailable, match=words):
            await model.sample(QUESTION, 1, Sampling())
        assert len(server.bodies) == 1


async def test_one_request_that_is_refused_closes_no_account() -> None:
    with double() as server, opened(server) as model:
        for fault in ("400", "404"):
            server.faults.append(fault)  # type: ignore[arg-type]
            with pytest.raises(ServerRefusal) as refused:
                await model.sample(QUESTION, 1, Sampling())
            assert not isinstance(refused.value, ModelUnavailable)


async def test_with_several_servers_all_of_them_must_refuse() -> None:
    with double() as first, double() as second:
        providers = [Provider(url=server.url) for server in (first, second)]
        with closing(BalancedModel(providers, None, {})) as model:
            first.faults.extend(["quota"] * 99)
            [sample] = await model.sample(QUESTION, 1, Sampling())
            assert sample.text == WORDS
            second.faults.extend(["quota"] * 99)
            with pytest.raises(ModelError, match="You exceeded your current quota"):
                await model.sample(QUESTION, 1, Sampling())


def test_a_wrong_key_stops_the_opening_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAVA_COT_API_KEY", "sk-another")
    wrong = pytest.raises(ModelUnavailable, match="environment variable LLAVA_COT_API_KEY")
    with double(key="sk-right") as server, wrong:
        EndpointModel(Provider(url=server.url), "scripted", {})
    assert not list(capabilities.capabilities_folder().glob("*"))
