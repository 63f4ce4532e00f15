"""A reward model behind a real vLLM server gives what the same checkpoint gives here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import reward_checkpoints
from vllm_server import serving

from llava_cot import ask, open_model
from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.registry import open_reward
from llava_cot.search.resources import Resources

ANSWERS = ("2", "There are 3 objects, and one is taken away.\n\n2", "I do not know.")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # vLLM's attention on a CPU takes no head of fewer than 32 numbers.
    return reward_checkpoints.text_reward(tmp_path_factory.mktemp("reward"), head_dim=32)


@pytest.fixture(scope="module")
def address(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(checkpoint, tmp_path_factory.mktemp("logs"), "--runner", "pooling") as url:
        yield url


@pytest.mark.parametrize("path", ["", "/classify", "/pooling"])
async def test_its_rewards_are_those_of_the_checkpoint(checkpoint: Path, address: str, path: str) -> None:
    prompt = Prompt.of("How many are left?")
    with closing(open_reward(address + path)) as served, closing(open_reward(str(checkpoint))) as here:
        found = [await served.reward(prompt, answer) for answer in ANSWERS]
        expected = [await here.reward(prompt, answer) for answer in ANSWERS]
    assert [one.value for one in found] == pytest.approx([one.value for one in expected], abs=1e-3)
    assert [one.prompt_tokens for one in found] == [one.prompt_tokens for one in expected]
    assert len({round(one.value, 2) for one in found}) == len(ANSWERS)


async def test_it_judges(folder: Path, address: str) -> None:
    with closing(open_reward(address)) as judge, closing(open_model(str(folder))) as model:
        trace = await ask(
            model, None, "How many are left?", method="best-of-n", n=3, judge="reward",
            sampling=Sampling(max_tokens=16), resources=Resources(judge_model=judge),
        )  # fmt: skip
    assert trace.judge_model == judge.name and trace.candidates
