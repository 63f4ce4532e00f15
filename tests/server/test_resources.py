"""A server lists the methods that it can run, and says why it refuses the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from extra_methods import Lengths, extra_methods
from playing import tagged
from serving import ASK, PATIENCE, Served, get, noisy, served

from llava_cot.core.trace import Trace
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.calibration import Calibration
from llava_cot.search.methods import METHODS
from llava_cot.search.request import possible_judges, possible_methods
from llava_cot.search.resources import Resources

FULL = Resources(
    reasoner=ScriptedModel(lambda prompt, rng: tagged("conclusion", "from another")),
    judge_model=Lengths(),
    calibration=Calibration("likelihood", 0.0, 1.0),
)


@pytest.fixture(autouse=True, scope="module")
def known() -> Iterator[None]:
    with extra_methods():
        yield


@pytest.fixture(scope="module")
def bare() -> Iterator[Served]:
    with served(ScriptedModel(noisy)) as running:
        yield running


@pytest.fixture(scope="module")
def full() -> Iterator[Served]:
    with served(ScriptedModel(noisy), resources=FULL) as running:
        yield running


def names(server: Served) -> set[str]:
    return {model["id"] for model in get(f"{server.url}/models").json()["data"]}


def described(server: Served) -> dict[str, Any]:
    found: dict[str, Any] = get(f"{server.url}/methods").json()
    return found


def refused(server: Served, **settings: Any) -> tuple[int, str]:
    body = {"model": "scripted", "messages": ASK} | settings
    reply = httpx.post(f"{server.url}/chat/completions", json=body, timeout=PATIENCE)
    sentence: str = reply.json()["error"]["message"]
    return reply.status_code, sentence


def test_methods_with_all_their_resources_are_listed(bare: Served, full: Served) -> None:
    assert not {"scripted:relay", "scripted:shower", "scripted:cutter-4"} & names(bare)
    reasoning = {"scripted:relay", "scripted:prism", "scripted:prism-query"}
    assert names(full) - names(bare) == {*reasoning, *(f"scripted:cutter-{n}" for n in (2, 4, 8))}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"model": "scripted:relay"},
            "relay needs a second model that reasons, and this server has none",
        ),
        ({"search": {"method": "shower"}}, "shower needs worked examples"),
        (
            {"model": "scripted:best-of-4@asking"},
            "asking needs a reward model, and this server has none; choose another method or judge",
        ),
        ({"search": {"judge": "asking"}}, "asking needs a reward model"),
    ],
)
def test_methods_without_their_resources_are_refused(
    bare: Served, settings: dict[str, Any], words: str, stream: bool
) -> None:
    status, sentence = refused(bare, **settings, stream=stream)
    assert status == 400 and words in sentence


def test_a_calibration_of_another_judge_does_not_count(full: Served) -> None:
    status, sentence = refused(full, model="scripted:cutter-2@asking")
    assert status == 400 and "cutter needs a calibration" in sentence


def test_a_name_that_cannot_run_is_refused(bare: Served) -> None:
    reply = get(f"{bare.url}/models/scripted:relay")
    assert reply.status_code == 400 and "second model" in reply.json()["error"]["message"]


def test_listed_methods_run(full: Served) -> None:
    assert full.ask(model="scripted:relay").choices[0].message.content == "from another"
    reply = full.ask(model="scripted:cutter-3-within-70", extra_body={"include_trace": True})
    trace = Trace.model_validate(reply.choices[0].trace, strict=False)
    assert (trace.budget, trace.judge, len(trace.scores)) == (70, "likelihood", 3)


def test_a_budget_comes_from_search_or_from_the_name(full: Served) -> None:
    body: dict[str, Any] = {"search": {"method": "cutter", "n": 2, "budget": 60}, "include_trace": True}
    assert full.ask(extra_body=body).choices[0].trace["budget"] == 60
    beside = {"search": {"budget": 61}, "include_trace": True}
    assert full.ask(model="scripted:cutter-2", extra_body=beside).choices[0].trace["budget"] == 61
    for settings, words in (
        (
            {"model": "scripted:cutter-2-within-5", "search": {"budget": 6}},
            "names a budget and so does search",
        ),
        ({"search": {"method": "single", "budget": 6}}, "single keeps to no budget"),
        ({"search": {"method": "cutter", "budget": 0}}, "search.budget: "),
        ({"search": {"method": "cutter", "budget": 10**7}}, "search.budget: "),
        ({"model": "scripted:cutter-2-within-9999999"}, "9999999 tokens of budget; give at most 1000000"),
    ):
        status, sentence = refused(full, **settings)
        assert status == 400 and words in sentence, sentence


def test_a_stream_of_two_models_is_one_answer(full: Served) -> None:
    chunks = full.ask(model="scripted:relay", stream=True)
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == "from another"
    with pytest.raises(openai.BadRequestError, match="worked examples"):
        full.ask(model="scripted:shower", stream=True)


def test_what_can_run_depends_on_the_resources() -> None:
    assert not {"relay", "shower", "cutter"} & set(possible_methods(Resources()))
    assert set(METHODS) - set(possible_methods(FULL)) == {"shower", "cot-few-shot"}
    assert possible_judges("best-of-n", Resources())[0] == "self" and "asking" not in possible_judges(
        "best-of-n", Resources()
    )
    assert "asking" in possible_judges("best-of-n", FULL)
    assert possible_judges("cutter", FULL) == ["likelihood"]
    assert possible_judges("majority", FULL) == []


def test_the_server_describes_its_methods(bare: Served, full: Served) -> None:
    assert [card["id"] for card in described(bare)["data"]] == possible_methods(Resources())
    found = described(full)
    assert (found["model"], found["default"]) == ("scripted", "stage-beam")
    cards = {card.pop("id"): card for card in found["data"]}
    assert list(cards) == possible_methods(FULL)
    cutter, relay = cards["cutter"], cards["relay"]
    assert (cutter["single"], cutter["budgeted"], cutter["judges"]) == (False, True, ["likelihood"])
    assert (relay["single"], relay["budgeted"], relay["judges"], relay["n"]) == (True, False, [], 1)
    assert cards["best-of-n"]["judges"] == possible_judges("best-of-n", FULL)


class Plain(ScriptedModel):
    """As a hosted API often is: no log-probabilities, no constraints, no seed, one temperature."""

    logprobs = False
    ignored_sampling = ("temperature", "seed")

    def __init__(self) -> None:
        super().__init__(noisy, constraints=())


def test_what_the_model_cannot_do_is_not_offered_and_refused() -> None:
    with served(Plain(), resources=Resources(judge_model=Lengths())) as server:
        listed, found = names(server), described(server)
        cards = {card["id"]: card for card in found["data"]}
        # By its own judge, a method of scores needs log-probabilities.
        assert not {"scripted:msg", "scripted:stage-wise-beam-4", "scripted:swires-4"} & listed
        assert "scripted:stage-beam-4" in listed and "msg" not in cards
        assert not any({"logits", "likelihood"} & {*card["judges"]} for card in cards.values())
        assert "rules" in cards["stage-wise-beam"]["judges"]
        assert found["ignored"] == ["temperature", "seed"]
        for name in ("scripted:msg", "scripted:best-of-4@logits", "scripted:stage-wise-beam-4"):
            assert get(f"{server.url}/models/{name}").status_code == 404
            status, sentence = refused(server, model=name)
            assert status == 404 and "which scripted does not" in sentence
        status, sentence = refused(server, search={"judge": "likelihood"})
        assert status == 400 and "needs log-probabilities, which scripted does not give" in sentence


def test_a_judge_model_may_be_able_to() -> None:
    with served(Plain(), resources=Resources(judge_model=ScriptedModel(noisy))) as server:
        judges = {card["id"]: card["judges"] for card in described(server)["data"]}
        assert "logits" in judges["best-of-n"] and "likelihood" not in judges["best-of-n"]
        assert server.ask(model="scripted:best-of-2@logits").choices[0].message.content.isdigit()
