"""Questions spread over the workers of a Ray cluster, each of which has its own copy of the model.

Ray restarts a worker that dies and repeats the calls that it had not answered.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import version
from math import ceil
from typing import Any, TypeVar

from llava_cot.core.images import ImageLimits, LoadedImage, load_image
from llava_cot.core.question import Question
from llava_cot.core.trace import Trace
from llava_cot.errors import ModelError, ModelFailure, ModelRefusal, ModelUnavailable, needs_extra
from llava_cot.models.base import Model
from llava_cot.search.ask import answer
from llava_cot.search.request import Request
from llava_cot.search.resources import Resources, absolute

LOCAL = "local"  # the address of a cluster that is started on this machine, and ends with the process
_TOKENS = "RAY_AUTH_MODE"  # Ray sends its token to a given address only if this is set
_START_SECONDS = 900.0  # for the first worker: loading a large model from a slow disk takes minutes
_POLL_SECONDS = 0.1
_SHARED_MB = 2048  # for the caches of all workers of a machine, where they share it
_ATTEMPTS = 3  # at a question whose worker dies: the question may be what kills it
_T = TypeVar("_T")
_NO_LIMITS = ImageLimits(max_bytes=2**40, max_pixels=2**40)  # pictures were checked where they were loaded


@dataclass(eq=False)
class _Member:
    """A worker as the driver sees it; `opening` is the reference to its model's name."""

    actor: Any
    opening: Any
    ready: bool = False
    busy: int = 0


class Cluster:
    """Workers that answer questions as `search.answer` does, with the same traces as a model in this process.

    Args:
        address: Of a running cluster: HOST:PORT, or "auto" for the one of this machine; "local" starts one.
        spec: The model: a name, or a folder at the same path on every machine.
        workers: How many; by default one a GPU, or one a machine where there are none.
        device: As for `open_model`; likewise `cache_mb`, for each machine, and other `options`.

    Raises:
        ModelError: if there is no such cluster, or no worker can open the model.
    """

    def __init__(
        self,
        address: str,
        spec: str,
        *,
        workers: int | None = None,
        device: str = "auto",
        cache_mb: int | str = "auto",
        **options: Any,
    ) -> None:
        spec = _absolute(spec)
        self._ray, self._joined_here = join(address)
        self._members: list[_Member] = []
        self._last_error = ""
        try:
            each = divide(self._ray.nodes(), workers, cache_mb, device)
            arguments = {"device": device, "cache_mb": each.cache_mb, **options}
            # Restarts need no limit of their own: calls are repeated so many times and then fail.
            kind = self._ray.remote(Worker).options(
                num_cpus=each.cpus, num_gpus=each.gpus, max_restarts=-1, max_task_retries=_ATTEMPTS - 1
            )
            for _ in range(each.workers):
                actor = kind.remote(spec, arguments, each.cpus, version("llava-cot"))
                self._members.append(_Member(actor, actor.model_name.remote()))
            self.name = self._wait_for_one()
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> int:
        """How many workers there are, those that are still starting included."""
        return len(self._members)

    async def answer(self, question: Question, request: Request, resources: Resources | None = None) -> Trace:
        """Return the trace of the request. Raises ModelError. `resources` are not used."""
        return Trace.parse((await self.call(_trace, question, request)).encode(), "a worker's reply")

    async def call(self, function: Callable[..., Awaitable[_T]], question: Question, *arguments: Any) -> _T:
        """Await `function(model, question, *arguments)` in a worker, which must be able to import it.

        Raises ModelError.
        """
        packed = await asyncio.to_thread(PackedQuestion.pack, question)
        errors = self._ray.exceptions
        member = await self._take()
        call = member.actor.call.options(max_task_retries=_ATTEMPTS - 1).remote(function, packed, arguments)
        try:
            found: _T = await call
            return found
        except asyncio.CancelledError:
            self._ray.cancel(call)
            raise
        except errors.RayTaskError as error:
            if isinstance(error.cause, ModelError):
                raise type(error.cause)(str(error.cause)) from None
            raise  # an error of the program
        except errors.RayActorError as error:
            if isinstance(error, errors.ActorDiedError):
                self._drop(member, error)
            raise ModelFailure(
                f"{_ATTEMPTS} workers of the Ray cluster were lost over one question, the last of them since "
                f"{_reason(error)}; look at the cluster's logs, and whether its memory is enough"
            ) from None
        finally:
            member.busy -= 1

    def close(self) -> None:
        """Stop the workers; questions in flight fail."""
        members, self._members = self._members, []
        closing = [member.actor.close.remote() for member in members if member.ready]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=10)
        for member in members:
            self._ray.kill(member.actor)
        if self._joined_here:
            self._ray.shutdown()

    def _wait_for_one(self) -> str:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if ready := self._ready():
                return str(self._ray.get(ready[0].opening))
            time.sleep(_POLL_SECONDS)
        raise ModelFailure(
            f"no worker of the Ray cluster was ready within {_START_SECONDS / 60:g} minutes; "
            "see `ray status` whether its CPUs and GPUs are taken"
        )

    async def _take(self) -> _Member:
        """Return the ready worker with the fewest questions, once there is one."""
        while not (ready := self._ready()):
            await asyncio.sleep(_POLL_SECONDS)
        member = min(ready, key=lambda one: one.busy)
        member.busy += 1
        return member

    def _ready(self) -> list[_Member]:
        """Return the workers that have opened their model. Raises ModelFailure if no worker is left."""
        for member in [one for one in self._members if not one.ready]:
            if self._ray.wait([member.opening], timeout=0)[0]:
                try:
                    self._ray.get(member.opening)
                    member.ready = True
                except self._ray.exceptions.RayError as error:
                    self._drop(member, error)
        if not self._members:
            raise ModelFailure(f"no worker of the Ray cluster is left: {self._last_error}")
        return [member for member in self._members if member.ready]

    def _drop(self, member: _Member, error: Exception) -> None:
        self._last_error = _reason(getattr(error, "cause", None) or error)
        if member in self._members:
            self._members.remove(member)
            self._ray.kill(member.actor)


@dataclass(frozen=True)
class WorkerResources:
    """What each worker has: CPUs (and as many threads), GPUs, and MiB for caches."""

    workers: int
    cpus: int
    gpus: float
    cache_mb: int | str


def divide(
    nodes: Sequence[Mapping[str, Any]], workers: int | None, cache_mb: int | str, device: str
) -> WorkerResources:
    """Divide a cluster's machines, as `ray.nodes()` lists them, among the workers. Raises ModelError."""
    machines = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    gpus = 0 if device == "cpu" else int(sum(one.get("GPU", 0) for one in machines))
    if gpus:
        machines = [one for one in machines if one.get("GPU", 0) >= 1]
    cpus = int(sum(one["CPU"] for one in machines))
    count = workers if workers is not None else gpus or len(machines)
    if not 1 <= count <= cpus:
        raise ModelError(
            f"the Ray cluster has {cpus} CPUs for {count} workers; it needs a worker, and a CPU for each"
        )
    per_machine = ceil(count / len(machines))
    return WorkerResources(
        count,
        max(1, int(min(one["CPU"] for one in machines)) // per_machine),
        min(1.0, gpus / count),
        _share_of(cache_mb, per_machine, gpus, count),
    )


def _share_of(cache_mb: int | str, per_machine: int, gpus: int, workers: int) -> int | str:
    """The caches of one worker. What is free ("auto") is for one with its GPU or its machine to itself."""
    if cache_mb == "auto":
        return "auto" if workers <= (gpus or workers // per_machine) else _SHARED_MB // per_machine
    return cache_mb if gpus else max(1, int(cache_mb) // per_machine)


def join(address: str) -> tuple[Any, bool]:
    """Return the module `ray`, joined to a cluster, and whether that was done now. Raises ModelError."""
    with needs_extra("a Ray cluster", "ray", ModelError):
        ray: Any = import_module("ray")
    if ray.is_initialized():
        return ray, False
    _check_port(address)
    more = {"include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **more)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        hint = "" if os.environ.get(_TOKENS) else f"; if it needs a token, set {_TOKENS}=token"
        raise _no_cluster(address, f"{_reason(error)}{hint}") from None
    return ray, True


def _absolute(spec: str) -> str:
    """Return the model's spec with an absolute path, for workers in other folders. Raises ModelError."""
    from llava_cot.models.endpoint.config import find_providers, load_config

    prefix = "vllm:" if spec.startswith("vllm:") else ""
    found = prefix + absolute(spec.removeprefix(prefix))
    if found == spec and find_providers(spec, load_config()):
        raise ModelError(
            f"{spec} is a server, which needs no Ray: name several servers with commas between their "
            "addresses, and leave --ray out"
        )
    return found


def _check_port(address: str) -> None:
    """Raise ModelError if nothing listens there: Ray itself would try for a minute and print messages."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from None


def _no_cluster(address: str, why: str) -> ModelError:
    return ModelError(
        f"there is no Ray cluster to join at {address} ({why}); start one with `ray start --head`, or use "
        "one on this machine with --ray local"
    )


def _reason(error: BaseException) -> str:
    """Return the line of Ray's message that says what happened."""
    text = str(error).strip()
    if "No module named 'llava_cot" in text:
        return "this version of llava-cot is not installed on the cluster's machines"
    return text.splitlines()[0].rstrip(".:") if text else type(error).__name__


@dataclass(frozen=True)
class PackedQuestion:
    """A question as it is sent: without its pictures, and for each its name and the bytes of a file."""

    question: Question
    pictures: tuple[tuple[str, bytes], ...]

    @classmethod
    def pack(cls, question: Question) -> PackedQuestion:
        pictures = tuple((image.name, _file_bytes(image)) for image in question.images)
        return cls(replace(question, images=()), pictures)

    def unpack(self) -> Question:
        """Return the question, with the same pixels."""
        images = tuple(load_image(data, limits=_NO_LIMITS, name=name) for name, data in self.pictures)
        return replace(self.question, images=images)


class Worker:
    """The actor that runs functions with its model, which it opens at the first call, also after a restart.

    Args:
        spec, arguments: As for `open_model`.
        threads: How many CPU threads it uses.
        expected: The version of llava-cot that it must have.
    """

    def __init__(self, spec: str, arguments: Mapping[str, Any], threads: int, expected: str) -> None:
        self._spec, self._arguments, self._threads, self._expected = spec, arguments, threads, expected
        self._model: Any = None

    async def model_name(self) -> str:
        """Open the model and return its name. Raises ModelError."""
        return self._open().name

    async def call(
        self, function: Callable[..., Awaitable[Any]], question: PackedQuestion, arguments: Sequence[Any]
    ) -> Any:
        """Call a function with the model, the question and the arguments. Raises ModelError."""
        model = self._open()
        try:
            return await function(model, question.unpack(), *arguments)
        except ValueError as error:  # not every exception can be sent to another process
            kinds = (ModelFailure, ModelUnavailable, ModelRefusal, ModelError)
            raise next((kind for kind in kinds if isinstance(error, kind)), ModelError)(str(error)) from None

    async def close(self) -> None:
        if self._model is not None:
            self._model.close()

    def _open(self) -> Model:
        if self._model is None:
            if (here := version("llava-cot")) != self._expected:
                raise ModelError(
                    f"a worker of the cluster has llava-cot {here}, and this is {self._expected}; install "
                    "the same version everywhere"
                )
            os.environ["OMP_NUM_THREADS"] = str(self._threads)  # before torch is imported
            from llava_cot.models.registry import open_model

            self._model = open_model(self._spec, **self._arguments)
        model: Model = self._model
        return model


async def _trace(model: Model, question: Question, request: Request) -> str:
    """The trace as JSON."""
    return (await answer(request, model, question)).model_dump_json()


def _file_bytes(image: LoadedImage) -> bytes:
    if image.file is not None:
        return image.file
    data = io.BytesIO()
    image.pil.save(data, "PNG", compress_level=1)
    return data.getvalue()
