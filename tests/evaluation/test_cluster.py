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
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llava_cot import open_model
from llava_cot.core.question import Question
from llava_cot.core.trace import Trace
from llava_cot.data.rollouts.rollouts import sample_answers
from llava_cot.errors import ModelError, ModelFailure
from llava_cot.evaluation import cluster
from llava_cot.evaluation.cluster import Cluster, divide
from llava_cot.models.base import Sampling
from llava_cot.scenes.items import make_item
from llava_cot.search.ask import answer
from llava_cot.search.request import make_request

QUESTIONS = [make_item("validation", 0, index).ask() for index in range(8)]
REQUESTS = [
    make_request("single", sampling=Sampling(seed=1)),
    make_request("stage-beam", n=2, sampling=Sampling(seed=3)),
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
            return list(
                await asyncio.gather(*(answer(request, model, q) for request in REQUESTS for q in QUESTIONS))
            )

    return [timeless(trace) for trace in asyncio.run(answered())]


def timeless(trace: Trace) -> Trace:
    return trace.model_copy(update={"usage": trace.usage.model_copy(update={"seconds": 0.0})})


def asking(workers: Cluster) -> list[asyncio.Task[Trace]]:
    return [asyncio.create_task(workers.answer(q, request)) for request in REQUESTS for q in QUESTIONS]


def pid(here: Any, actor: Any) -> int:
    """The process of an actor, which Ray may have restarted."""
    return int(here.get(actor.__ray_call__.remote(eval("lambda self: __import__('os').getpid()"))))


async def both_ready(workers: Cluster) -> None:
    async with asyncio.timeout(300):
        while len(workers._ready()) < 2:
            await asyncio.sleep(0.1)


async def test_two_workers_give_the_traces_of_one_process(
    here: Any, two: Cluster, expected: list[Trace]
) -> None:
    assert two.name == "mini"
    await both_ready(two)
    tasks = asking(two)
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert all(member.busy for member in two._members)
    assert [timeless(trace) for trace in await asyncio.gather(*tasks)] == expected
    threads = "lambda self: __import__('torch').get_num_threads()"
    assert [here.get(m.actor.__ray_call__.remote(eval(threads))) for m in two._members] == [1, 1]


async def test_a_worker_that_is_killed_in_the_middle_loses_nothing(
    here: Any, two: Cluster, expected: list[Trace]
) -> None:
    await both_ready(two)
    victim = two._members[0]
    before = pid(here, victim.actor)
    tasks = asking(two)
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert victim.busy > 0
    os.kill(before, signal.SIGKILL)
    assert [timeless(trace) for trace in await asyncio.gather(*tasks)] == expected
    assert len(two._members) == 2 and pid(here, victim.actor) != before  # Ray has restarted it
    assert timeless(await two.answer(QUESTIONS[0], REQUESTS[0])) == expected[0]


async def test_rollouts_of_two_workers_are_those_of_one_process(two: Cluster) -> None:
    function, arguments = sample_answers, (3, Sampling(temperature=1.0))
    with closing(open_model("mini")) as model:
        expected = await asyncio.gather(*(function(model, question, *arguments) for question in QUESTIONS))
    found = await asyncio.gather(*(two.call(function, question, *arguments) for question in QUESTIONS))
    assert [one.answers for one in found] == [one.answers for one in expected]


async def test_errors_of_a_question_are_those_of_ask(two: Cluster) -> None:
    with pytest.raises(ModelError, match="the question is empty; write what you want to know"):
        await two.answer(Question(" "), REQUESTS[0])
    with pytest.raises(KeyError, match="nonsense"):  # a request that is not checked: an error of the program
        await two.answer(QUESTIONS[0], replace(REQUESTS[0], method="nonsense"))


async def test_a_cancelled_question_is_cancelled_on_its_worker(two: Cluster) -> None:
    tasks = asking(two)
    await asyncio.sleep(0.2)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(member.busy == 0 for member in two._members)
    assert (await two.answer(QUESTIONS[0], REQUESTS[0])).answer is not None


class Deadly:
    """Kills the process that unpickles it."""

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return os._exit, (1,)


async def test_a_question_that_kills_its_workers_fails(two: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_ATTEMPTS", 2)
    await both_ready(two)
    with pytest.raises(ModelFailure, match="2 workers of the Ray cluster were lost over one question"):
        await two.answer(QUESTIONS[0], replace(REQUESTS[1], judge=Deadly()))  # type: ignore[arg-type]
    await both_ready(two)


def test_a_model_that_no_worker_can_open_is_an_error(here: Any, two: Cluster, tmp_path: Path) -> None:
    two.close()  # there are but two CPUs
    with pytest.raises(ModelFailure, match=r"no worker of the Ray cluster is left: .*config\.json"):
        Cluster("local", str(tmp_path), workers=1)


def test_an_address_without_a_cluster_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = time.monotonic()
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "nonsense"):
        with pytest.raises(ModelError, match=f"there is no Ray cluster to join at {address} .*--ray local"):
            Cluster(address, "mini")
    assert time.monotonic() - started < 20


def test_without_ray_the_error_has_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        ModelError,
        match=r"not installed; in the clone, run: pip install -c constraints.txt -e '.\[ray\]'",
    ):
        Cluster("auto", "mini")


def test_servers_need_no_ray() -> None:
    with pytest.raises(ModelError, match="which needs no Ray: name several servers with commas"):
        Cluster("auto", "http://a:8000/v1,http://b:8000/v1")


def machine(cpus: float, gpus: float = 0, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}}


@pytest.mark.parametrize(
    ("machines", "workers", "device", "expected"),
    [
        ([machine(8)], None, "auto", (1, 8, 0, 1000)),
        ([machine(8)], 2, "auto", (2, 4, 0, 500)),
        ([machine(8), machine(6), machine(64, alive=False)], None, "auto", (2, 6, 0, 1000)),
        ([machine(8), machine(8)], 3, "auto", (3, 4, 0, 500)),
        ([machine(32, 4), machine(16, 4), machine(64)], None, "auto", (8, 4, 1, 1000)),
        ([machine(32, 4)], 8, "auto", (8, 4, 0.5, 1000)),
        ([machine(32, 4)], None, "cpu", (1, 32, 0, 1000)),
        ([machine(0), machine(4)], None, "auto", (1, 4, 0, 1000)),
    ],
)
def test_shares(
    machines: list[dict[str, Any]], workers: int | None, device: str, expected: tuple[float, ...]
) -> None:
    found = divide(machines, workers, 1000, device)
    assert (found.workers, found.cpus, found.gpus, found.cache_mb) == expected


@pytest.mark.parametrize(
    ("machines", "workers", "device", "expected"),
    [
        ([machine(4)], None, "auto", "auto"),
        ([machine(4), machine(4)], 2, "auto", "auto"),
        ([machine(4)], 4, "auto", 512),
        ([machine(8, 2)], None, "auto", "auto"),
        ([machine(8, 2)], 4, "auto", 512),
    ],
)
def test_what_is_free_is_for_a_worker_with_a_device_of_its_own(
    machines: list[dict[str, Any]], workers: int | None, device: str, expected: object
) -> None:
    assert divide(machines, workers, "auto", device).cache_mb == expected


def test_more_workers_than_cpus_are_refused() -> None:
    for machines, workers in (([machine(2)], 3), ([machine(2)], 0), ([], None)):
        with pytest.raises(ModelError, match="it needs a worker, and a CPU for each"):
            divide(machines, workers, 1000, "auto")
