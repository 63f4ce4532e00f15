"""Steps as CUDA graphs, with a recorder of operations in the place of CUDA."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from opening import Tiny, noise, open_folder
from sweep.registry import all_types
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from llava_cot.models.base import Prompt, Sampling
from llava_cot.models.local.graphs import StepGraphs
from llava_cot.models.local.model import LocalModel

WARM = Sampling(temperature=1.0, top_p=0.95, max_tokens=40, seed=3)
PROMPTS = [Prompt.of(f"How many? {'And ' * i}", (noise(i % 2),) if i % 3 else ()) for i in range(5)]


class Recorder(TorchDispatchMode):
    """Records operations without their effect, and repeats them on the same memory, as a CUDA graph does."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0
        self._before: list[tuple[Tensor, Tensor]] = []  # what was written to, and its content

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for tensor, content in reversed(self._before):
            tensor.copy_(content)

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for part, argument in zip(args, op._schema.arguments, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._before.append((part, part.clone()))
        made = op(*args, **(kwargs or {}))
        self.calls.append((op, args, kwargs or {}, made))
        return made

    def replay(self) -> None:
        self.replays += 1
        for op, args, kwargs, made in self.calls:
            again = op(*args, **kwargs)
            for old, new in zip(_tensors(made), _tensors(again), strict=True):
                if old.data_ptr() != new.data_ptr():  # a view of what is there, or that itself
                    old.copy_(new)


def _tensors(value: Any) -> list[Tensor]:
    parts = value if isinstance(value, tuple | list) else [value]
    return [part for part in parts if isinstance(part, Tensor)]


class _Stream:
    def wait_stream(self, other: Any) -> None:
        pass


@contextmanager
def recording(graph: Recorder, **options: Any) -> Iterator[None]:
    with graph:
        yield


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    made: list[Recorder] = []

    def new() -> Recorder:
        made.append(Recorder())
        return made[-1]

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: _Stream())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: _Stream())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: 1)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", new)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    return made


async def tokens(model: LocalModel, sampling: Sampling) -> list[list[tuple[int, ...]]]:
    found = await asyncio.gather(*(model.sample(prompt, 2, sampling) for prompt in PROMPTS))
    return [[one.tokens for one in some] for some in found]


def with_graphs(opened: Tiny) -> LocalModel:
    model = LocalModel(opened.folder, device="cpu")
    network = model._engine._network
    network.graphs = StepGraphs(network._step, network.device)
    return model


def open_swept(name: str, folder: Path) -> Tiny:
    return open_folder(all_types()[name].save(folder))


# Image features in layers of their own, shifted positions, plain, windows, states.
@pytest.mark.parametrize("kind", ["mllama", "qwen3-vl", "llava", "gemma3", "qwen3_5"])
async def test_graphs_change_no_token(
    opened: Callable[[str], Tiny], recorders: list[Recorder], kind: str, tmp_path: Path
) -> None:
    tiny = open_swept(kind, tmp_path) if kind in ("gemma3", "qwen3_5") else opened(kind)
    with closing(with_graphs(tiny)) as model:
        for sampling in (replace(WARM, temperature=0), WARM):
            assert await tokens(model, sampling) == await tokens(tiny.model, sampling)
        steps = model.stats.decode_steps
        assert sum(recorder.replays for recorder in recorders) > steps / 3
        assert len(recorders) < steps / 5


async def test_without_graphs_where_recording_fails(
    recorders: list[Recorder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(graph: Recorder, **options: Any) -> Any:
        raise RuntimeError("operation not permitted")

    monkeypatch.setattr(torch.cuda, "graph", fails)
    tiny = open_swept("qwen3_5", tmp_path)
    with closing(with_graphs(tiny)) as model:
        assert await tokens(model, WARM) == await tokens(tiny.model, WARM)
    assert len(recorders) == 1
    [message] = [record.message for record in caplog.records if "CUDA graphs" in record.message]
    assert message.endswith("without CUDA graphs, which failed: operation not permitted")
