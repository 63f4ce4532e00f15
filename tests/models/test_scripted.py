from dataclasses import replace

import pytest

from llava_cot.errors import ModelError
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.scripted import ScriptedModel

GREEDY = Sampling(seed=3)


async def test_a_table_gives_the_rest_of_an_answer_that_begins_with_the_prefix() -> None:
    model = ScriptedModel({"q": ["one two", "one three", "four"]})
    texts = {c.text for c in await model.sample(Prompt.of("q", prefix="one"), 20, GREEDY)}
    assert texts == {" two", " three"}
    [ended] = await model.sample(Prompt.of("q", prefix="five"), 1, GREEDY)
    assert (ended.text, ended.finish) == ("", "eos")
    with pytest.raises(ModelError, match="no answer to 'other'"):
        await model.sample(Prompt.of("other"), 1, GREEDY)


async def test_samples_depend_on_seed_and_number_alone() -> None:
    model = ScriptedModel(lambda prompt, rng: str(rng.random()))
    three = await model.sample(Prompt.of("q"), 3, GREEDY)
    [one] = await model.sample(Prompt.of("q"), 1, GREEDY)
    assert one == three[0]
    assert await model.sample(Prompt.of("q"), 2, replace(GREEDY, first=1)) == three[1:]
    assert len({c.text for c in three}) == 3


async def test_it_stops_like_a_model() -> None:
    model = ScriptedModel({"q": ["a b. c d </X> e"]})

    async def go(prefix: str = "", **settings: object) -> tuple[str, str]:
        [c] = await model.sample(Prompt.of("q", prefix=prefix), 1, Sampling(**settings))  # type: ignore[arg-type]
        assert model.decode(c.tokens) == c.text
        return c.text, c.finish

    assert await go() == ("a b. c d </X> e", "eos")
    assert await go(stop=("</X>", ". ")) == ("a b.", "stop")
    assert await go(" a b."[1:], stop=("</X>", ". ")) == (" c d </X>", "stop")
    assert await go(max_tokens=2) == ("a b.", "length")


async def test_it_streams_the_first_sample_and_counts() -> None:
    model = ScriptedModel({"q r": ["a b c"]})
    pieces: list[str] = []
    first, _ = await model.sample(Prompt.of("q r"), 2, GREEDY, pieces.append)
    assert "".join(pieces) == first.text
    assert (first.prompt_tokens, first.completion_tokens) == (2, 4)


async def test_ids_must_be_those_of_the_prefix() -> None:
    model = ScriptedModel({"q": ["a b"]})
    [first] = await model.sample(Prompt.of("q"), 1, Sampling(max_tokens=1))
    await model.sample(Prompt.of("q", prefix="a", prefix_tokens=first.tokens), 1, GREEDY)
    with pytest.raises(ModelError, match="not those of its prefix"):
        await model.sample(Prompt.of("q", prefix="b", prefix_tokens=first.tokens), 1, GREEDY)
