"""Servers that give the log-probabilities of a prompt's own tokens score texts of any length."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import pytest
from endpoint_double import Double
from hypothesis import given
from hypothesis import strategies as st
from playing import PICTURE, WHOLE, remainder, tagged

from llava_cot import ask, open_model
from llava_cot.errors import ModelFailure, RequestError
from llava_cot.models.base import Prompt, Sampling, scores_texts
from llava_cot.models.endpoint.replies import tail_logprob
from llava_cot.models.scripted import ScriptedModel
from llava_cot.search.resources import Resources

CONTEXT = tagged("summary", "I will count.")
TEXT = "\n\n" + tagged("caption", " ".join(f"There are {n} red cubes." for n in range(30)))


class Known(ScriptedModel):
    """A word of a text has the log-probability that `words` says, or else -1."""

    def __init__(self, words: Mapping[str, float], script: Any = None, name: str = "base") -> None:
        super().__init__(
            script or remainder(WHOLE), lambda prompt, options: [self.total(option) for option in options]
        )
        self.words, self.name = words, name

    def total(self, text: str) -> float:
        return sum(self.words.get(word, -1.0) for word in re.findall(r"\w+", text))


BASE, TRAINED = Known({"red": -2.0}), Known({"red": -0.25, "cubes": -3.0}, name="trained")


@pytest.mark.parametrize("way", ["continue", "trailing"])
async def test_a_text_of_any_length_is_scored_as_a_part_of_the_prompt(way: Any) -> None:
    with Double(BASE, way, prompt_logprobs=True) as server, closing(open_model(server.url)) as model:
        assert scores_texts(model)
        for prefix, text in (("", CONTEXT), (CONTEXT, TEXT), (CONTEXT + TEXT, " red"), ("", WHOLE)):
            prompt = Prompt.of("How many?", (PICTURE,), prefix)
            assert await model.choose(prompt, [text]) == pytest.approx([BASE.total(text)])
            whole = Prompt.of("How many?", (PICTURE,), prefix + text)
            assert model.count_tokens(whole) == BASE.count_tokens(whole)
        server.bodies.clear()
        await model.choose(Prompt.of("How many?", (PICTURE,), CONTEXT), [TEXT])
        [body] = server.bodies  # the beginning was counted before
        assert (body["prompt_logprobs"], body["max_tokens"]) == (0, 1)


async def test_an_option_that_is_not_among_the_likeliest_is_scored_as_a_text() -> None:
    prompt = Prompt.of("Is it red?")
    for able in (True, False):
        with Double(BASE, prompt_logprobs=able) as server, closing(open_model(server.url)) as model:
            found = await model.choose(prompt, (" 1", " red"))  # the double gives " 1" and " 2"
            assert found == pytest.approx([-1.0, -2.0 if able else -float("inf")])


@pytest.mark.parametrize("strict", [False, True])
async def test_a_server_without_them_is_refused_before_it_is_asked(strict: bool) -> None:
    with Double(BASE, strict=strict) as server, closing(open_model(server.url)) as model:
        server.bodies.clear()
        assert not scores_texts(model)
        with pytest.raises(RequestError, match=r"log-probabilities of whole texts, which scripted does not"):
            await ask(model, None, "q", judge="implicit", resources=Resources(judge_model=TRAINED))
        assert server.bodies == []


async def test_the_judge_is_the_same_behind_servers() -> None:
    def script(prompt: Prompt, rng: Any) -> str:
        words = rng.choice(("red", "cubes", "red red cubes", "a red one"))
        return tagged("conclusion", f"{words} {rng.choice('abcdef')}")

    asked: dict[str, Any] = {"method": "best-of-n", "n": 6, "judge": "implicit", "sampling": Sampling(seed=5)}
    base = Known({"red": -2.0}, script)
    with (
        Double(base, prompt_logprobs=True, many=False) as one,
        Double(TRAINED, prompt_logprobs=True) as two,
        closing(open_model(one.url)) as answering,
        closing(open_model(two.url)) as trained,
    ):
        trace = await ask(answering, PICTURE, "q", resources=Resources(judge_model=trained), **asked)
    assert len({candidate.text for candidate in trace.candidates}) > 3
    for verdict in trace.verdicts:
        if verdict.scores is not None:
            for at, score in zip((verdict.a, verdict.b), verdict.scores, strict=True):
                text = trace.candidates[at].text
                assert score == pytest.approx(TRAINED.total(text) - base.total(text))
    best = max(trace.candidates, key=lambda c: TRAINED.total(c.text) - base.total(c.text))
    assert trace.text == best.text


async def test_servers_that_share_the_calls_must_all_give_them() -> None:
    with Double(BASE, prompt_logprobs=True) as one, Double(BASE) as two:
        for servers, able in (((one, one), True), ((one, two), False)):
            with closing(open_model(",".join(server.url for server in servers))) as model:
                assert scores_texts(model) is able
                if able:
                    assert await model.choose(Prompt.of("q"), [TEXT]) == pytest.approx([BASE.total(TEXT)])


async def test_a_reply_that_has_lost_them_is_a_failure() -> None:
    with Double(BASE, prompt_logprobs=True) as server, closing(open_model(server.url)) as model:
        server.prompt_logprobs = False
        with pytest.raises(ModelFailure, match="gave no log-probabilities of a text"):
            await model.choose(Prompt.of("q"), [TEXT])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["logprob", "7"]), inner),
    max_leaves=12,
)


@given(st.fixed_dictionaries({}, optional={"prompt_logprobs": JSON}), st.integers(-2, 5))
def test_whatever_a_server_sends_is_a_number_or_nothing(reply: dict[str, Any], start: int) -> None:
    found = tail_logprob(reply, start)
    assert found is None or isinstance(found, float)


@given(st.lists(st.floats(-50, 0), min_size=1, max_size=20), st.data())
def test_the_tail_is_summed(values: Sequence[float], data: Any) -> None:
    start = data.draw(st.integers(1, len(values)))
    entries = [None, *({"5": {"logprob": value, "rank": 3, "decoded_token": "x"}} for value in values)]
    assert tail_logprob({"prompt_logprobs": entries}, start) == pytest.approx(sum(values[start - 1 :]))
