"""Samples of a local model that are constrained."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import tiny
import torch
from opening import Tiny, noise

from llava_cot.core.stages import make_format, parse, validate
from llava_cot.errors import ModelError
from llava_cot.models.base import Constraint, Continuation, Message, Prompt, Sampling, constraints_of
from llava_cot.models.local.constraints import ConstraintCompiler
from llava_cot.models.local.model import LocalModel
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.stage_constraints import stage_grammar, stage_schema

# Tags that a model which writes noise comes to soon.
NOISY = make_format("think=o r,answer=i s")
WARM = Sampling(temperature=1.0, top_p=1.0, max_tokens=30, seed=3)
WORDS = ("yes", "yes or no", "12 red cubes", "12 red", "There are 3 cubes.")
FINITE = Constraint("grammar", "start: " + " | ".join(map(json.dumps, WORDS)))
MESSAGES = (
    (Message("user", "How many?", (noise(1),)),),
    (Message("user", "What color is the small metal sphere left of the cube? " * 3, (noise(2),)),),
    (Message("user", "How many?"),),
)


@pytest.fixture(params=["mllama", "idefics3"])
def kind(request: pytest.FixtureRequest, opened: Callable[[str], Tiny]) -> Tiny:
    return opened(request.param)


@pytest.fixture
def one(opened: Callable[[str], Tiny]) -> Tiny:
    return opened("idefics3")


def same(found: list[Continuation], expected: list[Continuation]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert replace(a, logprob=0) == replace(b, logprob=0)
        assert a.logprob == pytest.approx(b.logprob, abs=2e-3)


@pytest.mark.parametrize("options", [(), ("4", "12")])
async def test_whatever_the_model_would_like_the_stages_are_there(
    kind: Tiny, options: tuple[str, ...]
) -> None:
    found: list[Continuation] = []
    for temperature in (1.0, 100.0):  # at the second, any token that may be drawn is
        sampling = Sampling(
            temperature, 1.0, max_tokens=150, seed=3, constraint=stage_grammar(NOISY, options)
        )
        crowd = await asyncio.gather(*(kind.model.sample(Prompt(case), 4, sampling) for case in MESSAGES))
        found += [c for some in crowd for c in some]
    whole = [c.text for c in found if c.finish == "eos"]
    assert len(whole) > 2 and len(set(whole)) == len(whole)
    for text in whole:
        assert validate(text, NOISY) == []
        answer = parse(text, NOISY)
        assert all(answer.stages.values())
        assert not options or answer.answer in ("A", "B", "4", "12")
    for c in found:
        assert c.text == kind.processor.tokenizer.decode(c.tokens)
        if c.finish != "eos":
            assert c.finish == "length"
            assert {d.kind for d in validate(c.text, NOISY)} <= {"unclosed", "absent", "empty"}


def brute_force(kind: Tiny, messages: tuple[Message, ...], words: tuple[str, ...]) -> tuple[list[int], float]:
    """The likeliest token at each step of those with which one of the words can go on; and their sum of
    log-probabilities among all."""
    tokenizer, inputs = kind.processor.tokenizer, kind.inputs(messages)
    ids, text, total = list[int](), "", 0.0
    special = set(tokenizer.all_special_ids)
    while True:
        longer = {**inputs, "input_ids": torch.cat([inputs["input_ids"], torch.tensor([ids]).long()], 1)}
        for name in ("attention_mask", "cross_attention_mask"):
            if name in inputs:
                last = inputs[name][:, -1:]
                longer[name] = torch.cat([inputs[name], last.expand(-1, len(ids), *last.shape[2:])], 1)
        with torch.no_grad():
            logprobs = kind.network(**longer).logits[0, -1].log_softmax(-1)
        allowed = [
            token
            for token in range(len(logprobs))
            if token not in special
            and (piece := tokenizer.decode([token]))
            and any(word.startswith(text + piece) for word in words)
        ]
        if text in words:
            allowed.append(tokenizer.eos_token_id)
        best = max(allowed, key=lambda token: float(logprobs[token]))
        if best == tokenizer.eos_token_id:
            return ids, total
        ids.append(best)
        text += tokenizer.decode([best])
        total += float(logprobs[best])


async def test_greedy_takes_the_likeliest_allowed_token_at_each_step(kind: Tiny) -> None:
    for case in MESSAGES:
        ids, logprob = brute_force(kind, case, WORDS)
        for model in (kind.model, kind.alone):
            [found] = await model.sample(Prompt(case), 1, Sampling(temperature=0, constraint=FINITE))
            assert (list(found.tokens), found.finish) == (ids, "eos")
            assert found.text in WORDS and found.completion_tokens == len(ids) + 1
            assert found.logprob == pytest.approx(logprob, abs=2e-3)  # of the model, not of the constraint


async def test_rows_with_and_without_a_form_share_a_batch_and_change_nothing(kind: Tiny) -> None:
    constraints = (None, stage_grammar(NOISY), FINITE, stage_grammar(NOISY, ("4", "12")))
    requests = [
        (Prompt(case), replace(WARM, constraint=constraint))
        for case in MESSAGES
        for constraint in constraints
    ]
    expected = [await kind.alone.sample(prompt, 2, sampling) for prompt, sampling in requests]
    before = replace(kind.model.stats)
    for _ in range(2):  # at the second time, all was seen before, and is guessed
        crowd = await asyncio.gather(
            *(kind.model.sample(prompt, 2, sampling) for prompt, sampling in requests)
        )
        for found, known in zip(crowd, expected, strict=True):
            same(found, known)
    assert kind.model.stats.accepted > before.accepted


async def test_guesses_of_rows_with_a_form_come_true_and_change_nothing(one: Tiny) -> None:
    sampling = replace(WARM, constraint=stage_grammar(NOISY))
    expected = await one.alone.sample(Prompt(MESSAGES[0]), 4, sampling)
    await one.model.sample(Prompt(MESSAGES[0]), 4, sampling)
    before = replace(one.model.stats)
    same(await one.model.sample(Prompt(MESSAGES[0]), 4, sampling), expected)
    guessed, accepted = (getattr(one.model.stats, n) - getattr(before, n) for n in ("guessed", "accepted"))
    assert 0 < accepted <= guessed


async def test_a_form_is_for_what_comes_after_the_prefix(one: Tiny) -> None:
    prompt = Prompt(MESSAGES[0], "There are")
    [found] = await one.model.sample(prompt, 1, Sampling(temperature=0, constraint=FINITE))
    assert found.text in WORDS


async def test_a_form_stops_at_a_stop_string_and_streams(one: Tiny) -> None:
    shown: list[str] = []
    sampling = replace(WARM, constraint=stage_grammar(NOISY), stop=("e",))
    found = await one.model.sample(Prompt(MESSAGES[0]), 2, sampling, shown.append)
    assert "".join(shown) == found[0].text
    assert all(c.finish == "length" or (c.finish == "stop" and c.text.endswith("e")) for c in found)


async def test_a_json_schema_is_followed_in_its_order(one: Tiny) -> None:
    schema = json.dumps(
        {
            "type": "object",
            "properties": {"b": {"type": "boolean"}, "a": {"enum": ["x", "y"]}},
            "required": ["b", "a"],
            "additionalProperties": False,
        }
    )
    sampling = replace(WARM, max_tokens=400, constraint=Constraint("json", schema))
    found = [c.text for c in await one.model.sample(Prompt(MESSAGES[0]), 6, sampling) if c.finish == "eos"]
    assert found
    for text in found:
        read = json.loads(text)
        assert list(read) == ["b", "a"] and read["a"] in ("x", "y") and isinstance(read["b"], bool)


async def test_a_form_that_cannot_be_read_fails_its_call_alone(one: Tiny) -> None:
    bad = replace(WARM, constraint=Constraint("grammar", "start: NOWHERE"))
    free = await one.alone.sample(Prompt(MESSAGES[0]), 2, WARM)
    failed, found = await asyncio.gather(
        one.model.sample(Prompt(MESSAGES[0]), 2, bad),
        one.model.sample(Prompt(MESSAGES[0]), 2, WARM),
        return_exceptions=True,
    )
    assert isinstance(failed, ModelError) and str(failed).startswith("the constraint cannot be used: ")
    assert "\n" not in str(failed)
    assert isinstance(found, list)
    same(found, free)


async def test_a_form_that_fails_on_the_way_fails_its_call_alone(
    one: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = await one.alone.sample(Prompt(MESSAGES[0]), 2, WARM)

    def fail(self: object) -> None:
        raise ModelError("the model cannot continue under the constraint: too complex")

    monkeypatch.setattr("llava_cot.models.local.constraints.ConstraintState._next", fail)
    failed, found = await asyncio.gather(
        one.model.sample(Prompt(MESSAGES[0]), 2, replace(WARM, constraint=FINITE)),
        one.model.sample(Prompt(MESSAGES[0]), 2, WARM),
        return_exceptions=True,
    )
    assert isinstance(failed, ModelError) and isinstance(found, list)
    same(found, free)


async def test_without_llguidance_a_form_is_refused_with_what_to_install(
    one: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    model = LocalModel(one.folder, device="cpu")
    with pytest.raises(
        ModelError,
        match=r"needs llguidance, .* pip install -c constraints.txt -e '\.\[structured\]'",
    ):
        await model.sample(Prompt(MESSAGES[0]), 1, replace(WARM, constraint=FINITE))
    assert await model.sample(Prompt(MESSAGES[0]), 1, WARM)
    model.close()


async def test_what_a_model_cannot_enforce_is_refused_before_any_call() -> None:
    model = ScriptedModel({}, constraints=("json",))
    assert constraints_of(model) == ("json",) and constraints_of(object()) == ()
    with pytest.raises(ModelError, match="scripted cannot constrain its output to a grammar"):
        await model.sample(Prompt.of("q"), 1, Sampling(constraint=FINITE))
    assert model.calls == []


def test_tags_are_text_even_where_they_are_special_tokens_and_others_are_not() -> None:
    tokenizer = tiny.make_tokenizer("<SUMMARY>", "</SUMMARY>", "<image>")
    opens, closes, image = tokenizer.convert_tokens_to_ids(["<SUMMARY>", "</SUMMARY>", "<image>"])
    end = tokenizer.eos_token_id
    compiler = ConstraintCompiler(
        tokenizer, len(tokenizer) + 7, frozenset({end})
    )  # some models have unused ids
    [place] = compiler.start(stage_grammar(make_format("summary=<SUMMARY>")), 1)
    first = place.allowed()[0]
    assert set(tokenizer.convert_ids_to_tokens(first[: len(tokenizer)].nonzero()[0])) == {"<", "<SUMMARY>"}
    place.take(opens)
    inside = place.allowed()[0]
    assert not inside[closes] and not inside[image] and not inside[end] and not inside[len(tokenizer) :].any()
    place.take(tokenizer.encode("x", add_special_tokens=False)[0])
    rows = place.allowed([closes, end, image])
    assert rows.shape == (4, len(tokenizer) + 7)
    assert rows[0, closes] and not rows[0, image] and not rows[0, end]
    assert rows[1].nonzero()[0].tolist() == [end]
    assert (place.allowed()[0] == rows[0]).all()  # a draft changes nothing
    [free] = compiler.start(Constraint("grammar", "start: /(?s:.)*/"), 1)
    assert not free.allowed()[0][[opens, closes, image]].any()


def test_a_vocabulary_that_cannot_write_the_form_is_refused() -> None:
    tokenizer = tiny.make_tokenizer()
    end = tokenizer.eos_token_id
    size = tokenizer.convert_tokens_to_ids("z")  # without z and all that come after it
    [place] = ConstraintCompiler(tokenizer, size, frozenset({end, size + 3})).start(
        Constraint("grammar", 'start: "z"'), 1
    )
    with pytest.raises(ModelError, match=r"^the model cannot continue under the constraint: .*[^.]$"):
        place.allowed()


def test_a_schema_of_stages_is_one_that_llguidance_takes() -> None:
    tokenizer = tiny.make_tokenizer()
    compiler = ConstraintCompiler(tokenizer, len(tokenizer), frozenset({tokenizer.eos_token_id}))
    [place] = compiler.start(stage_schema(NOISY, ("4", 'say "é"')), 1)
    for token in tokenizer.encode('{"think": "a\\n", "answer": "say \\"é\\""}'):
        assert place.allowed()[0, token]
        place.take(token)
    assert place.allowed()[0].nonzero()[0].tolist() == [tokenizer.eos_token_id]
