"""Steps of decoding as CUDA graphs, which the device repeats without Python.

A graph is recorded for a number of rows and of columns, both rounded up, and for the buffers that it reads
and writes; rows beyond those of the batch compute on what is left in rows that are free. Where recording
fails, as for a network that reads values back to the host, there are no graphs from then on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from cachetools import LRUCache
from torch import Tensor

from llava_cot.models.local.kv_cache import BatchCache

_log = logging.getLogger(__name__)
_USES = 3  # of a shape before a graph of it is recorded, which takes as long as some steps
_GRAPHS = 64
_COLUMNS = 256  # the numbers of columns are multiples of it

# Runs a step of a batch: [3, rows, 1] with the tokens, their places and their positions, and the columns.
Step = Callable[[BatchCache, Tensor, int], Tensor]


class StepGraphs:
    """The graphs of a network's steps on a CUDA device."""

    def __init__(self, step: Step, device: torch.device) -> None:
        self._step, self._device = step, device
        self._uses: LRUCache[Hashable, int] = LRUCache(16 * _GRAPHS)
        self._graphs: LRUCache[Hashable, tuple[Tensor, Tensor, Any]] = LRUCache(_GRAPHS)
        self._pool: Any = None
        self.works = True

    def run(
        self, batch: BatchCache, numbers: Sequence[Sequence[int]], columns: int, crosses: Sequence[Tensor]
    ) -> Tensor | None:
        """The logits [rows, vocabulary] of a step, as `Network.step` computes them; None without a graph.

        Args:
            batch: The batch.
            numbers: The tokens of its rows, their places and their positions.
            columns: How many columns the step reads.
            crosses: Each row's image features, if its layers attend to such.
        """
        if not self.works:
            return None
        rows = len(numbers[0])
        size = min(1 << (rows - 1).bit_length(), batch.capacity[0])
        columns = min(-(-columns // _COLUMNS) * _COLUMNS, batch.capacity[1])
        batch.set_images(0, [*crosses, *[one for one in crosses[:1] for _ in range(rows, size)]])
        key = (size, columns, batch.addresses)
        padded = torch.tensor([[*some, *[0] * (size - rows)] for some in numbers])[:, :, None]
        if (found := self._graphs.get(key)) is not None:
            inputs, logits, graph = found
            inputs.copy_(padded, non_blocking=True)
            graph.replay()
            return logits[:rows]
        self._uses[key] = self._uses.get(key, 0) + 1
        if self._uses[key] < _USES:
            return None
        inputs = padded.to(self._device)
        cuda: Any = torch.cuda
        side, own = cuda.Stream(self._device), cuda.current_stream(self._device)
        side.wait_stream(own)
        with cuda.stream(side):  # this step; what is set up in a first run cannot be recorded
            logits = self._step(batch, inputs, columns)
        own.wait_stream(side)
        try:
            graph = cuda.CUDAGraph()
            self._pool = self._pool or cuda.graph_pool_handle()
            with cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                recorded = self._step(batch, inputs, columns)
            self._graphs[key] = (inputs, recorded, graph)
        except Exception as error:
            self.works = False
            _log.warning("steps of decoding are computed without CUDA graphs, which failed: %s", error)
        return logits[:rows]
