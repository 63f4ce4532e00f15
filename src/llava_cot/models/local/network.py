"""The forward passes of a transformers model, over the sequences of a batch.

Here is what differs between architectures: layers that attend to images, positions that images shift, a mask
for each kind of layer, states.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import (
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
)

from llava_cot.errors import ModelError
from llava_cot.models.local.checkpoint import PREFIX_LM, first_sentence, quiet
from llava_cot.models.local.devices import device_of, is_divided, send
from llava_cot.models.local.encoding import Head
from llava_cot.models.local.graphs import StepGraphs
from llava_cot.models.local.kv_cache import BatchCache, CacheLayout, StatePlace
from llava_cot.models.local.prefix_cache import PrefixRoot

# Multiplications in one matrix product below which more than one thread costs more time than it saves: waking
# a thread takes tens of microseconds (benchmarks/ask.py on mini, two cores: 5.5 ms a step against 2.3), and
# waiting for one whose processor is busy with another program takes milliseconds.
_SHARED = 300_000
_ANOTHER_LENGTH = 100_001
# Pixel values that cost a vision encoder about as much work as a token: a patch, in three colors.
_PATCH = 3 * 14 * 14


class Network:
    """A loaded model. Opening it runs one token, to learn the shapes of its caches.

    Raises ModelError if this engine cannot run the architecture. With `by_length`, results depend on the
    length of the cache, so that they are right only for one sequence at a time.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.device = device_of(model)
        self.dtype: torch.dtype = model.dtype
        linear = (m for m in model.modules() if isinstance(m, torch.nn.Linear))
        matrices = [m.in_features * m.out_features for m in linear]
        self._weights = sum(matrices) // max(1, len(matrices))  # of one matrix, on average
        self._all_threads = torch.get_num_threads()
        self._place = torch.zeros(1, 1)  # of each token in its text, [rows, tokens]
        self._scales = self._scale_queries()
        self._takes_logits_to_keep = "logits_to_keep" in inspect.signature(model.forward).parameters
        cross = tuple(getattr(model.config.get_text_config(), "cross_attention_layers", None) or ())
        self._patches: int = model.model.vision_model.num_patches if cross else 0
        self._windows = _windows(model.config)
        self.layout = self._learn(cross)
        self.graphs: StepGraphs | None = None
        if not is_divided(model):  # accelerate exchanges the parts of modules on other devices
            _flatten(model)
            if self.device.type == "cuda" and not self.by_length:
                self.graphs = StepGraphs(self._step, self.device)

    def _scale_queries(self) -> bool:
        """Scale the queries of Llama 4 by each token's own place. True if the model is one that does.

        transformers takes the places from the length of the cache, which says nothing of shorter rows.
        """
        tuned = (m for m in self._model.modules() if getattr(m, "attn_temperature_tuning", False))
        found = [module for module in tuned if not module.use_rope]
        for module in found:
            module.attn_temperature_tuning = False

            def scale(_: Any, __: Any, queries: Tensor, own: Any = module) -> Tensor:
                place = self._place.to(queries.device).float()
                by = torch.log1p(torch.floor((place + 1.0) / own.floor_scale)) * own.attn_scale + 1.0
                scaled: Tensor = queries * by[:, :, None]
                return scaled.to(queries.dtype)

            module.q_proj.register_forward_hook(scale)
        return bool(found)

    def _new_cache(self) -> Any:
        """transformers' own cache, where a window does not cut what is kept."""
        cache: Any = DynamicCache(config=self._model.config)
        for index, layer in enumerate(cache.layers):
            if isinstance(layer, LinearAttentionAndSlidingWindowAttentionLayer):
                cache.layers[index] = LinearAttentionAndFullAttentionLayer(layer.number_of_states)
            elif isinstance(layer, DynamicSlidingWindowLayer):
                cache.layers[index] = DynamicLayer()  # type: ignore[no-untyped-call]
        return cache

    def _learn(self, cross: tuple[int, ...]) -> CacheLayout:
        ids = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        try:
            cache = self._new_cache()
            with torch.inference_mode(), quiet():
                logits = self._run(cache, 1, input_ids=ids, position_ids=ids)
            if getattr(self._model.config.get_text_config(), "index_kpool", 1) > 1:
                raise ModelError("its attention chooses groups of a batch's columns, which rows do not share")
            planes: dict[tuple[int, int, torch.device], list[tuple[int, int]]] = {}
            states = []
            for index, layer in enumerate(cache.layers):
                if getattr(layer, "indexer_position_ids", None) is not None:
                    raise ModelError("its cache keeps the positions of tokens, which rows do not share")
                for part, plane in enumerate(_planes(layer)):
                    key = (plane.shape[1], plane.shape[3], plane.device)
                    planes.setdefault(key, []).append((index, part))
                for kind in ("conv", "recurrent"):
                    for number, state in getattr(layer, f"{kind}_states", {}).items():
                        if state is not None:
                            place = StatePlace(index, kind, number, tuple(state.shape[1:]), state.dtype)
                            states.append(place)
            devices = tuple(device for _, _, device in planes)
            if len(set(devices)) > 1 and (cross or states):
                raise ModelError(
                    "layers that attend to images or keep states cannot be on several devices that compute"
                )
            with torch.inference_mode():
                self.by_length = self._goes_by_length(cache, ids, cross)
        except Exception as error:
            kind = self._model.config.model_type
            reason = first_sentence(error)
            if getattr(self._model, "is_quantized", False):
                raise ModelError(
                    f"this engine cannot run {kind} with these quantized weights: {reason}"
                ) from None
            raise ModelError(f"this engine cannot run the architecture {kind}: {reason}") from None
        self.vocabulary: int = logits.shape[-1]
        layers = max(len(cache.layers), max(cross, default=-1) + 1)
        places = tuple(map(tuple, planes.values()))
        shapes = tuple((heads, width) for heads, width, _ in planes)
        return CacheLayout(layers, places, shapes, devices, cross, tuple(states), self.dtype, self.device)

    def _goes_by_length(self, first: Any, ids: Tensor, cross: tuple[int, ...]) -> bool:
        """Whether results depend on the length of the cache, for a cache that holds one token."""
        mask = torch.zeros(1, 1, 1, 2, dtype=self.dtype, device=self.device)
        read: list[int] = []

        def second(length: int) -> Tensor:
            cache = deepcopy(first)
            own = cache.get_seq_length

            def get_seq_length(layer_idx: int = 0) -> int:
                if layer_idx in cross:
                    return int(own(layer_idx))
                read.append(layer_idx)
                return length

            cache.get_seq_length = get_seq_length
            one = torch.ones_like(ids)  # another token than the first: attention to equal ones tells nothing
            return self._run(cache, 1, one, input_ids=one, position_ids=one, attention_mask=mask)

        before = second(1)
        return bool(read) and not torch.allclose(before, second(_ANOTHER_LENGTH))

    def run_heads(self, heads: Sequence[Head], inputs: Sequence[dict[str, Tensor]]) -> list[PrefixRoot]:
        """Run heads of one shape, with their images, in one pass."""
        batch = {name: torch.cat([one[name] for one in inputs]).to(self.device) for name in inputs[0]}
        batch = {n: t.to(self.dtype) if t.is_floating_point() else t for n, t in batch.items()}
        shifts = hasattr(getattr(self._model, "model", None), "rope_deltas")
        if shifts:
            self._model.model.rope_deltas = None
        both = self._model.config.model_type in PREFIX_LM
        if both:  # some begin at 1
            batch["position_ids"] = torch.arange(len(heads[0].ids), device=self.device)[None]
            batch.pop("labels", None)
        cache = self._new_cache()
        pixels = sum(t.numel() for t in batch.values() if t.is_floating_point())
        self._run(cache, 1, None, pixels, **batch)
        deltas = self._model.model.rope_deltas if shifts else None
        planes = [_planes(layer) for layer in cache.layers]
        kv = [torch.stack([planes[i][part] for i, part in some]) for some in self.layout.planes]
        crosses = [plane for layer in self.layout.cross for plane in planes[layer]]
        states = [getattr(cache.layers[s.layer], f"{s.kind}_states")[s.number] for s in self.layout.states]
        roots = []
        for row, (head, one) in enumerate(zip(heads, inputs, strict=True)):
            # Read in both directions, the last token sees all: it can be run again, for its logits.
            stop = len(head.ids) - both
            root = PrefixRoot(head.ids[:stop], [t[:, row, :, :stop].clone() for t in kv], None, head=head)
            root.states = [state[row].clone() for state in states] or None
            if crosses:
                seen = one["cross_attention_mask"][0, -1].flatten().bool().to(self.device)
                features = seen.repeat_interleave(self._patches)
                root.cross = torch.stack([state[row] for state in crosses])[:, :, features]
            if deltas is not None:
                root.shift = int(deltas[row])
            roots.append(root)
        return roots

    def step(
        self, batch: BatchCache, tokens: Sequence[int], lengths: Sequence[int], roots: Sequence[PrefixRoot]
    ) -> Tensor:
        """Run one token of each of the batch's first rows, whose lengths so far are given.

        Returns logits [rows, vocabulary].
        """
        positions = [length + root.shift for length, root in zip(lengths, roots, strict=True)]
        numbers, columns = (tokens, lengths, positions), max(lengths) + 1
        crosses = [root.cross for root in roots if root.cross is not None]
        if self.graphs is not None:
            logits = self.graphs.run(batch, numbers, columns, crosses)
            if logits is not None:
                return logits
        batch.set_images(0, crosses)
        return self._step(batch, send(numbers, self.device)[:, :, None], columns, min(lengths) + 1 == columns)

    def _step(self, batch: BatchCache, numbers: Tensor, columns: int, even: bool = False) -> Tensor:
        """A step on [3, rows, 1]: tokens, places, positions. All that differs between steps is in tensors."""
        ids, place, positions = numbers
        batch.select(0, len(ids), columns, 1, None if even else place)
        masks = self._masks(place, columns, even)
        inputs = {"input_ids": ids, "position_ids": positions, "attention_mask": masks}
        return self._run(batch.cache, 1, place, **inputs)[:, 0]

    def extend(
        self,
        batch: BatchCache,
        first: int,
        tokens: Sequence[Sequence[int]],
        lengths: Sequence[int],
        roots: Sequence[PrefixRoot],
        logits_to_keep: int,
    ) -> Tensor:
        """Run some tokens of rows `first` and on; otherwise as `step`.

        Shorter rows are padded on the left; what padding writes lands in the last column of the cache, which
        must be free. With states, rows must have equally many tokens. Returns logits
        [rows, logits_to_keep, vocabulary] of the last tokens.
        """
        rows, longest = len(tokens), max(map(len, tokens))
        columns = max(length + len(t) for length, t in zip(lengths, tokens, strict=True))
        pads = [longest - len(t) for t in tokens]
        ids = torch.tensor([[0] * pad + list(t) for t, pad in zip(tokens, pads, strict=True)])
        starts = torch.tensor([[length - pad] for length, pad in zip(lengths, pads, strict=True)])
        place = starts + torch.arange(longest)
        real = torch.arange(longest) >= torch.tensor(pads)[:, None]
        ids, place, real = (send(part, self.device) for part in (ids, place, real))
        positions = (place + self._shifts(roots)).masked_fill(~real, 0)
        more: dict[str, Any] = {"attention_mask": self._masks(place.clamp(min=0), columns)}
        where = place.masked_fill(~real, batch.capacity[1] - 1)
        batch.select(first, first + rows, columns, longest, where)
        if batch.features:
            batch.set_images(first, [root.cross for root in roots if root.cross is not None])
            # Without a mask, transformers would take attention to images for causal.
            shape = (rows, longest, 1, batch.features // self._patches)
            more["cross_attention_mask"] = torch.ones(shape, device=self.device)
        place = place.masked_fill(~real, 0)
        return self._run(batch.cache, logits_to_keep, place, input_ids=ids, position_ids=positions, **more)

    def _shifts(self, roots: Sequence[PrefixRoot]) -> Tensor:
        return send([[root.shift] for root in roots], self.device)

    def _masks(self, place: Tensor, columns: int, even: bool = False) -> Any:
        """The mask of each kind of layer, or one for all.

        None where nothing is masked, as for the last tokens of rows that are `even`.
        """
        made: dict[_Window | None, Tensor | None] = {None: None}
        for window in self._windows.values():
            if window is not None and window not in made:
                whole = even and not window.always and columns <= (window.size or columns)
                made[window] = None if whole else self._mask(place, columns, window)
        masks = {kind: made[window] for kind, window in self._windows.items()}
        return masks.get("", masks)

    def _mask(self, place: Tensor, columns: int, window: _Window) -> Tensor:
        """[rows, 1, tokens, columns]: each token sees the columns up to its own, within the window."""
        column, place = torch.arange(columns, device=self.device), place[:, None, :, None]
        seen = column <= place
        if window.size and window.chunked:
            seen &= column // window.size == place // window.size
        elif window.size:
            seen &= column > place - window.size
        mask = torch.zeros(seen.shape, dtype=self.dtype, device=self.device)
        return mask.masked_fill_(~seen, torch.finfo(self.dtype).min)

    def _run(
        self, cache: Any, logits_to_keep: int, place: Tensor | None = None, pixels: int = 0, **inputs: Any
    ) -> Tensor:
        """Run tokens at the places [rows, tokens] of their texts; None if they are the beginnings."""
        if self._takes_logits_to_keep:
            inputs["logits_to_keep"] = logits_to_keep
        if self._scales:
            self._place = torch.arange(inputs["input_ids"].shape[1])[None] if place is None else place
        size = max(inputs["input_ids"].numel(), pixels // _PATCH) * self._weights
        with threads(self._all_threads if size >= _SHARED else 1):
            logits: Tensor = self._model(past_key_values=cache, use_cache=True, **inputs).logits
        return logits[:, -logits_to_keep:].float()


@dataclass(frozen=True)
class _Window:
    """What the layers of a kind see: the last `size` tokens, or those of a chunk of `size`; 0 is all."""

    size: int = 0
    chunked: bool = False
    always: bool = False  # they need a mask where nothing is masked too


# The masks of kinds of layers that are called otherwise than their one mask.
_MASKS = {
    "hybrid": ("full_attention", "linear_attention"),
    "hybrid_sliding": ("sliding_attention", "linear_attention"),
    "mlp": (),
    "moe": (),
}


def _windows(config: Any) -> dict[str, _Window | None]:
    """The windows of a model's kinds of layers by the names that transformers has for their masks.

    None is a kind that reads states. A model whose layers are of one kind takes one mask, here "". Raises
    ModelError for a model with another kind of layer.
    """
    text = config.get_text_config()
    sliding = _Window(getattr(text, "sliding_window", None) or 0)
    chunked = _Window(getattr(text, "attention_chunk_size", None) or 0, chunked=True)
    known: dict[str, _Window | None] = {
        "full_attention": _Window(),
        "sliding_attention": sliding,
        "chunked_attention": chunked,
        "indexed_attention": _Window(always=True),
        "linear_attention": None,
        "conv": None,
    }
    kinds = getattr(text, "layer_types", None)
    if config.model_type in PREFIX_LM:  # they take one mask; their context is cut to the window
        return {"": _Window()}
    if kinds is None:
        return {"": chunked if chunked.size else sliding}
    masks = {mask for kind in ("full_attention", *kinds) for mask in _MASKS.get(kind, (kind,))}
    if strange := sorted(masks - known.keys()):
        raise ModelError(
            f"this engine cannot run {config.model_type}: it has layers of the kind {strange[0]}; "
            "run it with vLLM (vllm:FOLDER) or a server"
        )
    for kind, window, field in (
        ("sliding_attention", sliding, "sliding_window"),
        ("chunked_attention", chunked, "attention_chunk_size"),
    ):
        if kind in masks and window.size < 1:
            raise ModelError(
                f"the checkpoint has layers of the kind {kind}, and its {field} is "
                f"{getattr(text, field, None)}; use the config.json of the original"
            )
    if set(kinds) == {"full_attention"}:
        return {"": _Window()}
    return {kind: window for kind, window in known.items() if kind in masks}


def _planes(layer: Any) -> list[Tensor]:
    """Keys, values and an indexer's keys, [rows, heads, tokens, width], in a layer of transformers' cache."""
    if getattr(layer, "keys", None) is None or not layer.is_initialized:
        return []
    indexer = getattr(layer, "indexer_keys", None)
    return [layer.keys, layer.values] + ([] if indexer is None else [indexer[:, None]])


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with `count` threads on the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _flatten(model: Any) -> None:
    """Put every module's parts into its `__dict__`, where Python finds them at once.

    torch looks them up by a function call each time, which takes a tenth of a small model's step.
    """
    for module in model.modules():
        module.__dict__.update({**module._parameters, **module._buffers, **module._modules})
