"""Questions spread over a real Ray cluster of this machine, whose workers are killed."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llava_cot import ask, open_model
from llava_cot.core.question import Question
from llava_cot.core.trace import Trace
from llava_cot.errors import ModelError, ModelFailure
from llava_cot.evaluation import cluster
from llava_cot.evaluation.cluster import Cluster
from llava_cot.scenes.items import make_item

QUESTIONS = [make_item("validation", 0, index).ask() for index in range(8)]
HOW: list[dict[str, Any]] = [
    {"method": "single", "seed": 1},
    {"method": "stage-beam", "n": 2, "seed": 3},
]


@pytest.fixture(scope="module")
def here() -> Iterator[Any]:
    """A cluster of two CPUs."""
    import ray

    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex()  # else one is written to the user's home
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
        # Else its workers give way to all other processes, such as the other tests.
        _system_config={"worker_niceness": 0},
    )
    yield ray
    ray.shutdown()
    del os.environ["RAY_AUTH_TOKEN"]


@pytest.fixture(scope="module")
def two(here: Any) -> Iterator[Cluster]:
    with closing(Cluster("local", "mini", workers=2)) as workers:
        yield workers


@pytest.fixture(scope="module")
def expected() -> list[Trace]:
    """The traces of one process."""

    async def answered() -> list[Trace]:
        with closing(open_model("mini")) as model:
            return list(await asyncio.gather(*(ask(model, None, q, **how) for how in HOW for q in QUESTIONS)))

    return [timeless(trace) for trace in asyncio.run(answered())]


def timeless(trace: Trace) -> Trace:
    return trace.model_copy(update={"usage": trace.usage.model_copy(update={"seconds": 0.0})})


def asked(workers: Cluster) -> list[asyncio.Task[Trace]]:
    return [asyncio.create_task(workers.answer(q, **how)) for how in HOW for q in QUESTIONS]


async def both_ready(workers: Cluster) -> None:
    async with asyncio.timeout(300):
        while not (workers.workers == 2 and all(member.ready for member in workers._members)):
            workers._look()
            await asyncio.sleep(0.1)


async def test_two_workers_give_the_traces_of_one_process(
    here: Any, two: Cluster, expected: list[Trace]
) -> None:
    assert two.name == "mini"
    await both_ready(two)
    found = await asyncio.gather(*asked(two))
    assert [timeless(trace) for trace in found] == expected
    assert all(member.answered for member in two._members)
    threads = "lambda self: __import__('torch').get_num_threads()"
    assert [here.get(m.actor.__ray_call__.remote(eval(threads))) for m in two._members] == [1, 1]


async def test_a_worker_that_is_killed_in_the_middle_loses_nothing(
    here: Any, two: Cluster, expected: list[Trace]
) -> None:
    await both_ready(two)
    victim = two._members[0]
    pid = here.get(victim.actor.__ray_call__.remote(eval("lambda self: __import__('os').getpid()")))
    asking = asked(two)
    await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    assert victim.busy > 0
    os.kill(pid, signal.SIGKILL)
    found = await asyncio.gather(*asking)
    assert [timeless(trace) for trace in found] == expected
    assert victim not in two._members
    await both_ready(two)  # another has taken its place
    assert timeless(await two.answer(QUESTIONS[0], **HOW[0])) == expected[0]


async def test_what_is_wrong_with_a_question_is_said_as_by_ask(two: Cluster) -> None:
    with pytest.raises(ModelError, match="the question is empty; write what you want to know"):
        await two.answer(Question(" "))
    with pytest.raises(ModelError, match="there is no method 'nonsense'; choose one of"):
        await two.answer(QUESTIONS[0], method="nonsense")


async def test_a_question_that_is_given_up_is_given_up_by_its_worker(two: Cluster) -> None:
    asking = asked(two)
    await asyncio.sleep(0.2)
    for task in asking:
        task.cancel()
    await asyncio.wait(asking)
    assert all(member.busy == 0 for member in two._members)
    assert (await two.answer(QUESTIONS[0], **HOW[0])).answer is not None


class Deadly:
    """Whoever is sent this dies of reading it."""

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return os._exit, (1,)


async def test_a_question_that_kills_its_workers_is_given_up(
    two: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_LOSSES", 2)
    await both_ready(two)
    with pytest.raises(ModelFailure, match="2 workers of the Ray cluster were lost over one question"):
        await two.answer(QUESTIONS[0], method="stage-beam", judge=Deadly())
    await both_ready(two)


def test_a_model_that_no_worker_can_open_is_said(here: Any, two: Cluster, tmp_path: Path) -> None:
    two.close()  # there are but two CPUs
    with pytest.raises(ModelFailure, match=r"no worker of the Ray cluster is left: .*config\.json"):
        Cluster("local", str(tmp_path), workers=1)


def test_an_address_where_no_cluster_is_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = time.monotonic()
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "nonsense"):
        with pytest.raises(ModelError, match=f"there is no Ray cluster to join at {address} .*--ray local"):
            Cluster(address, "mini")
    assert time.monotonic() - started < 20


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        ModelError, match=r"needs ray, which is not installed; in the clone, run: pip install -e '.\[ray\]'"
    ):
        Cluster("auto", "mini")


def test_servers_need_no_ray() -> None:
    with pytest.raises(ModelError, match="which needs no Ray: name several servers with commas"):
        Cluster("auto", "http://a:8000/v1,http://b:8000/v1")
