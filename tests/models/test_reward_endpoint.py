"""The reward model behind a server, against a real HTTP server."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from endpoint_double import Double
from playing import PICTURE
from reward_double import RewardDouble

from llava_cot.errors import ModelError
from llava_cot.models.base import Prompt, Reward
from llava_cot.models.endpoint.prompts import data_url
from llava_cot.models.endpoint.reward_endpoint import EndpointReward, _of_right
from llava_cot.models.registry import open_reward
from llava_cot.models.scripted import ScriptedModel

KEY = "sk-very-secret-0123456789"
PROMPT = Prompt.of("How many are left?", [PICTURE])
TURN = {
    "role": "user",
    "content": [
        {"type": "image_url", "image_url": {"url": data_url(PICTURE, None)}},
        {"type": "text", "text": "How many are left?"},
    ],
}


def words(question: str, answer: str) -> float:
    return len(question) + len(answer.split()) / 8


@contextmanager
def opened(server: Double, end: str = "", **settings: Any) -> Iterator[EndpointReward]:
    with closing(open_reward(server.url + end, **settings)) as model:
        assert isinstance(model, EndpointReward)
        server.bodies.clear()
        yield model


@pytest.mark.parametrize(
    ("ways", "end", "path"),
    [
        (("/classify", "/pooling", "/score", "/v1/score"), "", "/classify"),
        (("/classify", "/pooling", "/score", "/v1/score"), "/pooling", "/pooling"),
        (("/v1/classify",), "", "/v1/classify"),
        (("/pooling", "/score"), "", "/pooling"),
        (("/v1/score", "/pooling"), "/score", "/v1/score"),
        (("/score",), "", "/score"),
    ],
)
async def test_each_way_gives_the_reward(ways: tuple[str, ...], end: str, path: str) -> None:
    with RewardDouble(words, ways=ways) as server, opened(server, end) as model:
        assert (model.path, model.name, model.images) == (path, "judge", True)
        found = await model.reward(PROMPT, "2 cubes")
        [body] = server.bodies
    assert found == Reward(18.25, 6)
    pair = {"text_1": {"content": TURN["content"]}, "text_2": "2 cubes"}
    talk = {"messages": [TURN, {"role": "assistant", "content": "2 cubes"}]}
    assert body == {"model": "judge", "use_activation": False} | (pair if path.endswith("score") else talk)


async def test_a_model_of_text_alone_gets_no_picture() -> None:
    for way in ("/classify", "/score"):
        with RewardDouble(words, ways=(way,), pictures=False) as server, opened(server) as model:
            assert not model.images
            assert (await model.reward(PROMPT, "2 cubes")).value == 18.25
            assert "image" not in str(server.bodies)


async def test_the_last_token_s_reward_is_the_answer_s() -> None:
    with RewardDouble(words, ways=("/pooling",), tokens=True) as server, opened(server) as model:
        assert (await model.reward(PROMPT, "2 cubes")).value == 18.25


async def test_many_at_once_share_connections_and_failures_pass() -> None:
    with RewardDouble(words) as server, opened(server) as model:
        server.faults.extend(["500", "503", "429"])
        answers = [f"{'cube ' * k}" for k in range(30)]
        found = await asyncio.gather(*(model.reward(PROMPT, answer) for answer in answers))
        assert [one.value for one in found] == [words("How many are left?", answer) for answer in answers]
        assert len(server.bodies) == 33
        assert server.connections <= 31


async def test_a_price_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "config" / "llava-cot"
    folder.mkdir(parents=True)
    with RewardDouble(words) as server:
        (folder / "endpoints.yaml").write_text(
            f"providers:\n  grader:\n    url: {server.url}\nprices:\n  judge: {{input: 2.0, output: 0}}\n"
        )
        with closing(open_reward("grader")) as model:
            assert (await model.reward(PROMPT, "2 cubes")).usd == pytest.approx(12e-6)


async def test_a_key_is_sent_and_appears_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with RewardDouble(words, key=KEY) as server:
        with pytest.raises(ModelError, match="LLAVA_COT_API_KEY") as refused:
            open_reward(server.url)
        monkeypatch.setenv("LLAVA_COT_API_KEY", KEY)
        with opened(server) as model:
            assert (await model.reward(PROMPT, "2 cubes")).value == 18.25
        monkeypatch.setenv("LLAVA_COT_API_KEY", KEY + "x")
        with pytest.raises(ModelError) as wrong:
            open_reward(server.url)
    assert KEY not in caplog.text + str(refused.value) + str(wrong.value)


@pytest.mark.parametrize(
    ("server", "end", "words"),
    [
        (
            Double(ScriptedModel({}), models=("talker",)),
            "",
            "gives no rewards for talker: it answers at none of",
        ),
        (RewardDouble(words, labels=2), "", "gives 2 numbers for an answer, and a reward model gives one"),
        (RewardDouble(words, ways=("/score",)), "/classify", "answers at none of /classify;"),
        (RewardDouble(lambda q, a: float("nan")), "", "which is no reward"),
    ],
)
def test_what_is_no_reward_model(server: Double, end: str, words: str) -> None:
    with server, pytest.raises(ModelError, match=words) as refused:
        open_reward(server.url + end)
    assert "\n" not in str(refused.value)


def test_several_servers_are_refused() -> None:
    with pytest.raises(ModelError, match="is several servers; give one"):
        open_reward("http://a/v1,http://b/v1")


QWEN = "<extra_0>"  # after each step, of Qwen2.5-Math-PRM


async def test_a_process_reward_model_gives_its_steps_probabilities() -> None:
    """As vLLM serves Qwen2.5-Math-PRM at /pooling: two logits at each mark."""
    odds = {"I add. ": 2.0, "It is 9. ": -1.0, "So 9.": 0.0}
    with (
        RewardDouble(lambda q, step: odds.get(step, 0.0), ways=("/pooling",), mark=QWEN) as server,
        opened(server) as model,
    ):
        found = await model.reward(PROMPT, "".join(step + QWEN for step in odds))
        assert found.steps == pytest.approx([1 / (1 + math.exp(-x)) for x in odds.values()])
        assert (found.value, found.prompt_tokens) == (found.steps[-1], 11)
        with pytest.raises(ModelError, match=r"gives numbers to marked steps alone.*set step_end"):
            await model.reward(PROMPT, "no mark")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0.25, 0.75], 0.75),  # probabilities already
        ([1.0, 3.0], 1 / (1 + math.exp(-2.0))),
        ([900.0, -900.0], 0.0),
        ([-900.0, 900.0], 1.0),
        (["a", 1.0], None),
        ([None, 1.0], None),
        ([float("nan"), 1.0], None),
    ],
)
def test_the_two_numbers_of_a_step_are_logits_or_probabilities(row: list[Any], expected: Any) -> None:
    found = _of_right(row)
    assert math.isnan(found) if expected is None else found == pytest.approx(expected)
