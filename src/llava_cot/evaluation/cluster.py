"""Questions spread over the workers of a Ray cluster, each of which has a model of its own.

Owns who answers what, and what becomes of the questions of a worker that is lost. What a worker does is
`worker.py`'s subject, how a cluster is found and shared out `joining.py`'s.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from llava_cot.core.question import Question
from llava_cot.core.trace import Trace
from llava_cot.errors import ModelError, ModelFailure
from llava_cot.evaluation.joining import checked, join, reason, shares
from llava_cot.evaluation.worker import Opening, Reply, Worker, pack
from llava_cot.search.request import Request
from llava_cot.search.resources import Resources

_START_SECONDS = 900.0  # for the first worker: loading a large model from a slow disk takes minutes
_LOOK_SECONDS = 0.1
# One that dies so often without an answer in between is not started again.
_STARTS = 3
# A question that loses so many workers may be what kills them.
_LOSSES = 3


@dataclass(eq=False)
class _Member:
    actor: Any
    opening: Any
    starts: int
    ready: bool = False
    busy: int = 0
    answered: bool = False


class Cluster:
    """Workers that answer questions as `ask` does, with the same traces as a model of this process.

    `address` is that of a running cluster ("auto" finds the one of this machine), or "local". There are as
    many workers as GPUs, or one a machine where there are none, unless `workers` says how many. The model
    is named, or a folder that is at the same place on every machine. `name` is the model's.
    """

    def __init__(
        self,
        address: str,
        spec: str,
        *,
        workers: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        cache_mb: int = 2048,
    ) -> None:
        spec = checked(spec)
        ray, self._started_here = join(address)
        self._ray = ray
        try:
            share = shares(ray.nodes(), workers, cache_mb, device)
            settings = {"device": device, "dtype": dtype, "cache_mb": share.cache_mb}
            self._opening = Opening(spec, settings, share.cpus)
            self._kind = ray.remote(Worker).options(num_cpus=share.cpus, num_gpus=share.gpus)
            self._why = ""
            self._members = [self._start(1) for _ in range(share.workers)]
            self.name = self._wait_for_one()
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> int:
        """How many are there, or about to be."""
        return len(self._members)

    async def answer(self, question: Question, request: Request, resources: Resources) -> Trace:
        """The trace that `answer` gives for the request. Raises ModelError, ValueError.

        What is under way at a worker that dies is given to another; a new worker is started in its place.
        """
        packed = await asyncio.to_thread(pack, question)
        for _ in range(_LOSSES):
            member = await self._take()
            call = member.actor.answer.remote(packed, request)
            try:
                reply: Reply = await call
            except asyncio.CancelledError:
                self._ray.cancel(call)
                raise
            except self._ray.exceptions.RayTaskError:
                raise  # a mistake of the program, as it is
            except self._ray.exceptions.RayError as error:
                self._lost(member, reason(error))
                continue
            finally:
                member.busy -= 1
            member.answered = True
            if reply.trouble:
                raise (ModelFailure if reply.failure else ModelError)(reply.said)
            return Trace.parse(reply.said.encode(), "a worker's reply")
        raise ModelFailure(
            f"{_LOSSES} workers of the Ray cluster were lost over one question, the last of them since "
            f"{self._why}; look at the cluster's logs, and whether its memory is enough"
        )

    def close(self) -> None:
        """End the workers; what is running fails."""
        members, self._members = getattr(self, "_members", []), []
        closing = [member.actor.close.remote() for member in members if member.ready]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=10)
        for member in members:
            self._ray.kill(member.actor)
        if self._started_here:
            self._ray.shutdown()

    def _start(self, starts: int) -> _Member:
        actor = self._kind.remote()
        return _Member(actor, actor.open.remote(self._opening, version("llava-cot")), starts)

    def _wait_for_one(self) -> str:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            self._look()
            for member in self._members:
                if member.ready:
                    return str(self._ray.get(member.opening).said)
            time.sleep(_LOOK_SECONDS)
        raise ModelFailure(
            f"no worker of the Ray cluster was ready within {_START_SECONDS / 60:g} minutes; "
            "see `ray status` whether its CPUs and GPUs are taken"
        )

    async def _take(self) -> _Member:
        """The worker that has the least to do, once there is one."""
        while True:
            self._look()
            if ready := [member for member in self._members if member.ready]:
                member = min(ready, key=lambda one: one.busy)
                member.busy += 1
                return member
            await asyncio.sleep(_LOOK_SECONDS)

    def _look(self) -> None:
        """See which of those that were started are ready. Raises ModelError if none is left."""
        for member in [one for one in self._members if not one.ready]:
            if not self._ray.wait([member.opening], timeout=0)[0]:
                continue
            try:
                reply: Reply = self._ray.get(member.opening)
            except self._ray.exceptions.RayError as error:
                self._lost(member, reason(error))
                continue
            member.ready = not reply.trouble
            if reply.trouble:
                self._lost(member, reply.said, again=False)
        if not self._members:
            raise ModelFailure(f"no worker of the Ray cluster is left: {self._why}")

    def _lost(self, member: _Member, why: str, again: bool = True) -> None:
        """Start another in its place. Each question that it had tells of its end; the first one counts."""
        if member not in self._members:
            return
        self._why = why
        self._members.remove(member)
        self._ray.kill(member.actor)
        starts = 1 if member.answered else member.starts + 1
        if again and starts <= _STARTS:
            self._members.append(self._start(starts))
