"""The KV cache of the sequences that are decoded together, and how transformers' layers read and write it.

A sequence is a row; its tokens lie at columns 0 to length - 1, and what lies behind is finite and masked.
The layers' keys and values ("planes") of one shape share one tensor [planes, rows, heads, columns, width], so
that one operation copies, reads or writes a whole row. Layers with a recurrent or convolution state keep one
of fixed size per row: it is the state after all tokens that were run, and cannot go back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, LinearAttentionLayer

KV = list[Tensor]
States = list[Tensor]  # of one row, in the order of `CacheLayout.states`
# The smallest capacity, if there is memory: growing copies the cache.
_ROWS = 8
_COLUMNS = 256


@dataclass(frozen=True)
class StatePlace:
    """A state of one layer: "conv" or "recurrent", its number there, and its shape without rows."""

    layer: int
    kind: str
    number: int
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class CacheLayout:
    """Where each layer's keys and values lie in a `BatchCache`."""

    layers: int  # how many the model's cache has
    # of each tensor: layer, and 0 for keys, 1 for values, 2 for an indexer's keys
    planes: tuple[tuple[tuple[int, int], ...], ...]
    shapes: tuple[tuple[int, int], ...]  # of each tensor's planes: heads, width
    devices: tuple[torch.device, ...]  # of each tensor: that of its layers
    cross: tuple[int, ...]  # the layers that attend to images
    states: tuple[StatePlace, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def token_bytes(self) -> int:
        elements = sum(len(p) * h * w for p, (h, w) in zip(self.planes, self.shapes, strict=True))
        return elements * self.dtype.itemsize

    @property
    def state_bytes(self) -> int:
        return sum(math.prod(state.shape) * state.dtype.itemsize for state in self.states)

    def row_bytes(self, tokens: int) -> int:
        """What a sequence of so many tokens takes."""
        return tokens * self.token_bytes + self.state_bytes


class BatchCache:
    """Keys and values of the sequences of one batch, in buffers that grow.

    `cross` are the image features of one sequence (`PrefixRoot.cross`), None without; all sequences of a
    batch have as many.
    """

    def __init__(self, layout: CacheLayout, cross: Tensor | None) -> None:
        self.layout = layout
        self.features = 0 if cross is None else cross.shape[2]
        self._cross_bytes = 0 if cross is None else cross.nbytes
        self.capacity = (0, 0)
        self._kv: KV = []
        self._planes: dict[tuple[int, int], Tensor] = {}
        self._states: States = []  # of all rows
        self._cross: Tensor | None = None
        self._cross_in: list[Tensor | None] = []
        self._at = (0, 0, 0)
        self.before = 0  # columns before the tokens of the next forward pass, in the longest row
        self._where: tuple[Tensor, Tensor] | None = None
        layers: list[Any] = [_TextLayer(self, i) for i in range(layout.layers)]
        attending = {layer for places in layout.planes for layer, _ in places}
        for index in {state.layer for state in layout.states}:
            layers[index] = _HybridLayer(self, index) if index in attending else LinearAttentionLayer()
        self._cross_layers = [_ImageLayer() for _ in layout.cross]  # type: ignore[no-untyped-call]
        for index, layer in zip(layout.cross, self._cross_layers, strict=True):
            layers[index] = layer
        self.cache = Cache(layers=layers)

    @property
    def nbytes(self) -> int:
        return self._needs(*self.capacity, self._cross is not None)

    def _needs(self, rows: int, columns: int, mixed: bool) -> int:
        return rows * (self.layout.row_bytes(columns) + (self._cross_bytes if mixed else 0))

    def reserve(self, rows: int, columns: int, held: tuple[int, int], mixed: bool, limit: int) -> bool:
        """Make room for rows and columns. False if it takes more than `limit` bytes.

        The content of `held` rows and columns stays. `mixed` rows, on different images, need room for the
        features of each.
        """
        fits = rows <= self.capacity[0] and columns <= self.capacity[1]
        roomy = (max(_ROWS, 1 << (rows - 1).bit_length()), _COLUMNS * -(-columns * 3 // 2 // _COLUMNS))
        shapes = (self.capacity,) if fits else (roomy, (rows, -(-columns // 16) * 16))
        for more_rows, more_columns in (*shapes, (rows, columns)):
            if self._needs(more_rows, more_columns, mixed or self._cross is not None) <= limit:
                if (more_rows, more_columns) != self.capacity:
                    self._resize(more_rows, more_columns, held)
                return True
        return False

    def _resize(self, rows: int, columns: int, held: tuple[int, int]) -> None:
        layout = self.layout
        kv = [
            _zeros((len(p), rows, h, columns, w), layout.dtype, device)
            for p, (h, w), device in zip(layout.planes, layout.shapes, layout.devices, strict=True)
        ]
        for new, before in zip(kv, self._kv, strict=False):
            new[:, : held[0], :, : held[1]] = before[:, : held[0], :, : held[1]]
        states = [_zeros((rows, *place.shape), place.dtype, layout.device) for place in layout.states]
        for new, before in zip(states, self._states, strict=False):
            new[: held[0]] = before[: held[0]]
        planes = {
            place: buffer[i]
            for buffer, places in zip(kv, self.layout.planes, strict=True)
            for i, place in enumerate(places)
        }
        # Nothing has changed if what comes before fails, as where memory runs out.
        self._kv, self._planes, self._cross, self.capacity = kv, planes, None, (rows, columns)
        self._states, self._at = states, (0, 0, 0)

    def write(self, row: int, start: int, kv: KV) -> int:
        """Copy keys and values into a row from column `start` on. Returns the column after them."""
        stop = start + kv[0].shape[2]
        for buffer, part in zip(self._kv, kv, strict=True):
            buffer[:, row, :, start:stop] = part
        return stop

    def read(self, row: int, start: int, stop: int) -> KV:
        return [buffer[:, row, :, start:stop].clone() for buffer in self._kv]

    def write_states(self, row: int, states: States | None) -> None:
        """Set the states of a row; None for those before any token."""
        for i, buffer in enumerate(self._states):
            buffer[row] = states[i] if states else 0

    def read_states(self, row: int) -> States:
        return [buffer[row].clone() for buffer in self._states]

    def copy(self, row: int, first: int, last: int, length: int) -> None:
        """Copy the first `length` columns of a row, and its states, to rows `first` to `last` - 1."""
        for buffer in self._kv:
            buffer[:, first:last, :, :length] = buffer[:, row : row + 1, :, :length]
        for buffer in self._states:
            buffer[first:last] = buffer[row : row + 1]

    def clear(self, first: int, last: int | None = None) -> None:
        """Fill rows `first` to `last` - 1, or to the end, with zeros."""
        for buffer in self._kv:
            buffer[:, first:last] = 0
        for buffer in self._states:
            buffer[first:last] = 0

    def set_images(self, first: int, crosses: Sequence[Tensor]) -> None:
        """Set the image features of rows `first` and on, before a forward pass on just these.

        Rows on the same image read one copy; rows on different ones each have their own.
        """
        if not self.features:
            return
        if all(cross is crosses[0] for cross in crosses):
            features = crosses[0][:, None].expand(-1, len(crosses), -1, -1, -1)
        else:
            features = self._gather(first, crosses)
        for i, layer in enumerate(self._cross_layers):
            layer.keys, layer.values = features[2 * i], features[2 * i + 1]
            layer.is_initialized = True

    def _gather(self, first: int, crosses: Sequence[Tensor]) -> Tensor:
        stop = first + len(crosses)
        if self._cross is None:
            p, h, f, w = crosses[0].shape
            self._cross = crosses[0].new_empty(p, self.capacity[0], h, f, w)
            self._cross_in = [None] * self.capacity[0]
        for row, cross in enumerate(crosses, first):
            if self._cross_in[row] is not cross:
                self._cross[:, row] = cross
                self._cross_in[row] = cross
        return self._cross[:, first:stop]

    @property
    def addresses(self) -> tuple[int, ...]:
        """Where in memory that is which a forward pass reads and writes, and whether rows share an image."""
        layers = self._cross_layers if self.features else []
        images = [part for layer in layers for part in (layer.keys, layer.values) if part is not None]
        shared = [part.stride(0) for part in images[:1]]
        return (*shared, *(part.data_ptr() for part in (*self._kv, *self._states, *images)))

    def select(self, first: int, stop: int, columns: int, tokens: int, where: Tensor | None) -> None:
        """Set the rows and columns that the next forward pass, on some tokens a row, reads.

        `where` [rows, tokens] are the columns that its tokens are written to; None if they are the last
        ones of `columns` in every row.
        """
        if (first, stop) != self._at[:2]:
            for place, states in zip(self.layout.states, self._states, strict=True):
                _set_state(self.cache.layers[place.layer], place, states[first:stop])
        self._at = (first, stop, columns)
        self.before = columns - tokens
        self._where = None
        if where is not None:
            rows = torch.arange(first, stop, device=where.device)[:, None].expand_as(where)
            self._where = (rows, where)

    def update(self, layer: int, part: int, states: Tensor) -> Tensor:
        """Write [rows, heads, tokens, width] of a layer's plane. Returns what its tokens may see."""
        plane = self._planes[layer, part]
        first, stop, columns = self._at
        if self._where is None:
            plane[first:stop, :, columns - states.shape[2] : columns] = states
        else:
            rows, where = self._where
            if rows.device != plane.device:
                rows, where = rows.to(plane.device), where.to(plane.device)
            plane[rows, :, where] = states.transpose(1, 2)
        return plane[first:stop, :, :columns]

    @property
    def columns(self) -> int:
        """Columns that the next forward pass reads."""
        return self._at[2]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros, since a masked column must be finite. From numpy, they cost a CPU nothing until written."""
    if device.type != "cpu" or 0 in shape:
        return torch.zeros(shape, dtype=dtype, device=device)
    empty = np.zeros(math.prod(shape) * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(empty).view(dtype).view(shape)


def _set_state(layer: Any, place: StatePlace, states: Tensor) -> None:
    """Have a layer of transformers' cache work on some rows of a buffer. It changes them in place."""
    number = place.number
    getattr(layer, f"{place.kind}_states")[number] = states
    getattr(layer, f"is_{place.kind}_states_initialized")[number] = True
    layer.has_previous_state[number] = True  # for a new row, a state of zeros is that before any token
    if place.kind == "conv":
        layer.conv_kernel_size[number] = states.shape[-1]
    layer.dtype, layer.device = states.dtype, states.device


class _Layer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """A layer of the cache as transformers sees it."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        pass

    def get_max_length(self) -> int:
        return -1


class _TextLayer(_Layer):  # type: ignore[no-untyped-call]
    """Keys and values of tokens, to which each forward pass adds."""

    def __init__(self, batch: BatchCache, index: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_initialized = True
        self.keys = self.values = torch.empty(0)  # Mllama looks at their size
        self._batch, self._index = batch, index

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        keys = self._batch.update(self._index, 0, key_states)
        return keys, self._batch.update(self._index, 1, value_states)

    def update_indexer(self, indexer_key_states: Tensor) -> Tensor:
        """Write [rows, tokens, width]. Returns the keys of all tokens so far, likewise."""
        return self._batch.update(self._index, 2, indexer_key_states[:, None])[:, 0]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._batch.columns, 0

    def get_seq_length(self) -> int:
        return self._batch.before


class _HybridLayer(_TextLayer, LinearAttentionLayer):  # type: ignore[misc, no-untyped-call]
    """A layer with keys and values and states."""

    def __init__(self, batch: BatchCache, index: int) -> None:
        LinearAttentionLayer.__init__(self)
        _TextLayer.__init__(self, batch, index)


class _ImageLayer(_Layer):  # type: ignore[no-untyped-call]
    """Image features, to which no token is added."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        raise RuntimeError("no token is added to the features of an image")

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length(), 0

    def get_seq_length(self) -> int:
        return 0 if self.keys is None else self.keys.shape[2]
