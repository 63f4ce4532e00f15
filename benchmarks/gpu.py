"""How fast a GPU decodes random checkpoints in the true shapes of published models, and how fast it could.

    python benchmarks/gpu.py                        # all three models, on the GPU, in bfloat16
    python benchmarks/gpu.py qwen3-vl-8b --json
    python benchmarks/gpu.py --dry                  # in miniature, on any machine; the figures mean nothing

The weights are made on the device and never trained, but recite four stages, as `random_mllama.py` explains.
For each model: stage-level beam search with N candidates, for one question and for many at once, with CUDA
graphs and without; transformers' `generate` on one question; and the published procedure. The floor of a
step is the time in which the memory gives the weights of the text model and the cache of all rows, at the
speed that copying a tensor reaches here; the share is the floor over the time that a step took, with all
prefills, judges and Python. One Markdown table goes to standard output, progress to standard error.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from plain import Plain
from published import Limits, Published
from random_mllama import CHAT_TEMPLATE, IMAGE, LARGE, TINY, make_tokenizer, recite, script
from torch import Tensor
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from llava_cot.core.question import Question
from llava_cot.models.local import model as local
from llava_cot.models.local.checkpoint import Checkpoint
from llava_cot.models.local.devices import find_device
from llava_cot.models.local.engine import Engine
from llava_cot.models.local.model import LocalModel
from llava_cot.scenes.items import make_item
from llava_cot.search.ask import answer
from llava_cot.search.request import make_request

NS = (1, 2, 4, 8, 16)
MANY = 32  # questions at once
LIMITS = Limits(temperature=0.6, top_p=0.9, max_tokens=256, reply_tokens=32)
_QWEN = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")


def _ids(found: Any) -> dict[str, Any]:
    return {f"{name}_token_id": getattr(found, f"{name}_token_id") for name in ("bos", "eos", "pad")}


def _mllama(found: Any, dry: bool) -> tuple[Any, Any]:
    """Llama-3.2-11B-Vision."""
    size = 28 if dry else 560
    small = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "cross_attention_layers": [1], "vocab_size": 1024,
    }  # fmt: skip
    vision = {
        "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_global_layers": 1,
        "attention_heads": 2, "vision_output_dim": 48, "intermediate_layers_indices": [0],
    } if dry else {"intermediate_layers_indices": [3, 7, 15, 23, 30]}  # fmt: skip
    config = MllamaConfig(
        vision_config={"image_size": size, **vision},
        text_config={**(small if dry else {}), **_ids(found)},
        image_token_index=found.convert_tokens_to_ids(IMAGE),
    )
    images = MllamaImageProcessorPil(size={"height": size, "width": size}, max_image_tiles=4)
    return MllamaForConditionalGeneration(config), MllamaProcessor(images, found)


def _qwen3(found: Any, dry: bool) -> tuple[Any, Any]:
    """Qwen3-VL-8B."""
    start, image, end, video = found.convert_tokens_to_ids(list(_QWEN))
    text: dict[str, Any] = {
        "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
        "rope_parameters": {"rope_type": "default", "mrope_section": [24, 20, 20], "rope_theta": 5e6},
    }  # fmt: skip
    vision: dict[str, Any] = {"out_hidden_size": 4096}
    if dry:
        text |= {
            "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 1024,
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 1e4},
        }  # fmt: skip
        vision = {
            "depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 64,
            "deepstack_visual_indexes": [0], "num_position_embeddings": 16,
        }  # fmt: skip
    config = Qwen3VLConfig(
        vision_config=vision,
        text_config={**text, **_ids(found)},
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    images = Qwen2VLImageProcessorPil(
        min_pixels=32 * 32, max_pixels=(8 if dry else 1024) * 32 * 32, patch_size=16, merge_size=2
    )
    names = [name for name in Qwen3VLProcessor.get_attributes() if "video" not in name]
    stills = type("Stills", (Qwen3VLProcessor,), {"get_attributes": classmethod(lambda cls: names)})
    return Qwen3VLForConditionalGeneration(config), stills(images, found)


def _smolvlm(found: Any, dry: bool) -> tuple[Any, Any]:
    """SmolVLM2-2.2B, whose network is that of Idefics3."""
    text: dict[str, Any] = {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 49280, "max_position_embeddings": 8192,
    }  # fmt: skip
    vision: dict[str, Any] = {
        "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
        "image_size": 384, "patch_size": 14,
    }  # fmt: skip
    if dry:
        text |= {
            "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 1024,
        }  # fmt: skip
        vision |= {
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 42,
        }  # fmt: skip
    config = Idefics3Config(
        vision_config=vision,
        text_config=LlamaConfig(**text, **_ids(found)),
        image_token_id=found.convert_tokens_to_ids("<image>"),
        scale_factor=3,
        tie_word_embeddings=False,
    )
    side = vision["image_size"]
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 4 * side}, max_image_size={"longest_edge": side}, do_image_splitting=not dry
    )
    length = (side // vision["patch_size"] // 3) ** 2
    return Idefics3ForConditionalGeneration(config), Idefics3Processor(images, found, image_seq_len=length)


# Of each model: its maker, how a picture stands in its template, and special tokens.
MODELS: dict[str, tuple[Callable[[Any, bool], tuple[Any, Any]], str, Sequence[str]]] = {
    "llama-3.2-11b-vision": (_mllama, IMAGE, ()),
    "qwen3-vl-8b": (_qwen3, "".join(_QWEN[:3]), _QWEN),
    "smolvlm2-2.2b": (_smolvlm, "<image>", ("<image>", "<fake_token_around_image>", "<global-img>")),
}


def make_network(name: str, dry: bool) -> tuple[Any, Any]:
    """A model with its processor, in the shapes that are published or in miniature."""
    maker, image, special = MODELS[name]
    found = make_tokenizer(_size(dry), 0)
    found.add_special_tokens({"extra_special_tokens": list(special)})
    model, processor = maker(found, dry)
    processor.chat_template = CHAT_TEMPLATE.replace(IMAGE, image)
    model.generation_config.eos_token_id = found.eos_token_id
    model.generation_config.pad_token_id = found.pad_token_id
    return model, processor


def _size(dry: bool) -> Any:
    return replace(TINY, words=4) if dry else LARGE


def make(name: str, device: torch.device, dry: bool) -> Checkpoint:
    """A model that was never trained and recites four stages, made on the device."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32 if dry else torch.bfloat16)
    try:
        with torch.device(device):
            model, processor = make_network(name, dry)
            found = processor.tokenizer
            places = script(found, _size(dry).words, 0)
            recite(model, [found.convert_tokens_to_ids(list(place)) for place in places])
    finally:
        torch.set_default_dtype(before)
    return Checkpoint(model.eval().requires_grad_(False), processor, 2048 if dry else 8192)


@dataclass
class Row:
    """What was measured; the last four are not known of what runs outside the engine."""

    model: str
    who: str
    n: int
    questions: int
    seconds: float
    tokens_per_second: float
    steps_per_second: float | None = None
    rows: float | None = None  # of a step, on average
    floor_ms: float | None = None
    share: float | None = None


class DevicePlain(Plain):
    """A model as transformers alone runs it, on a device."""

    def encode(self, prompt: Any) -> dict[str, Tensor]:
        made = {name: value.to(self.model.device) for name, value in super().encode(prompt).items()}
        return {n: v.to(self.model.dtype) if v.is_floating_point() else v for n, v in made.items()}


def bandwidth(device: torch.device, size: int) -> float:
    """Bytes that the device's memory reads and writes in a second."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(5):
        best = min(best, _timed(device, lambda: target.copy_(source)))
    return 2 * size / best


def _timed(device: torch.device, run: Callable[[], Any]) -> float:
    wait = torch.accelerator.synchronize if device.type != "cpu" else (lambda: None)
    wait()
    began = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - began


@contextmanager
def counted() -> Iterator[list[int]]:
    """The bytes of caches that all steps have to read, as a list of one number."""
    read = [0]
    decode = Engine._decode

    def counting(self: Engine, batch: Any) -> None:
        images = {
            id(one.root.cross): one.root.cross.nbytes for one in batch.samples if one.root.cross is not None
        }
        read[0] += sum(images.values())
        read[0] += sum(len(one.ids) for one in batch.samples) * self._network.layout.token_bytes
        decode(self, batch)

    with patch.object(Engine, "_decode", counting):
        yield read


def ours(name: str, made: Checkpoint, n: int, questions: int, speed: float, graphs: bool) -> Row:
    """Stage-level beam search by the engine, warmed up on other questions."""
    request = make_request("stage-beam" if n > 1 else "single", n=n, stages="trained")

    async def all_answers(model: LocalModel, start: int) -> int:
        asked = [_question(start + i) for i in range(questions)]
        traces = await asyncio.gather(*(answer(request, model, one) for one in asked))
        return sum(trace.usage.completion_tokens for trace in traces)

    with (
        TemporaryDirectory() as folder,
        patch.object(local, "load_checkpoint", lambda *_, **__: made),
        closing(LocalModel(Path(folder), name=name)) as model,
    ):
        network = model._engine._network
        if not graphs:
            network.graphs = None
        asyncio.run(all_answers(model, 10_000))
        before = replace(model.stats)
        found: list[int] = []
        with counted() as read:
            run = lambda: found.append(asyncio.run(all_answers(model, 0)))  # noqa: E731
            seconds = _timed(network.device, run)
        steps = model.stats.decode_steps - before.decode_steps
        other = ("vis", "projector", "connector", "embed_tokens")  # not read in a step, or a row of it
        named = made.model.named_parameters()
        weights = sum(p.nbytes for path, p in named if not any(part in path for part in other))
        floor = (weights + read[0] / steps) / speed
        rows = (model.stats.rows - before.rows) / steps
    who = "ours, graphs" if graphs else "ours"
    speeds = found[0] / seconds, steps / seconds
    return Row(name, who, n, questions, seconds, *speeds, rows, 1000 * floor, floor * steps / seconds)


def others(name: str, made: Checkpoint, device: torch.device, ns: Sequence[int]) -> Iterator[Row]:
    """`generate` alone, and the published procedure, on one question."""
    plain = DevicePlain(made.model, made.processor)
    for n in ns:
        theirs = Published(plain, LIMITS, random.Random(0))
        question = _question(0)

        def run(theirs: Published = theirs, question: Question = question, n: int = n) -> Any:
            return theirs.single(question) if n == 1 else theirs.stage_beam(question, n)

        seconds = _timed(device, run)
        who = "generate" if n == 1 else "published"
        yield Row(name, who, n, 1, seconds, theirs.usage.completion_tokens / seconds)


def _question(index: int) -> Question:
    return make_item("validation", 0, index).ask()


def markdown(rows: Sequence[Row], speed: float) -> str:
    lines = [
        f"Memory: {speed / 1e9:,.0f} GB/s, read and written.\n",
        "| model | | N | questions | s | tokens/s | steps/s | rows | floor, ms a step | share of the floor |",
        "| --- | --- |" + " ---: |" * 8,
    ]
    for row in rows:
        known = [row.steps_per_second, row.rows, row.floor_ms, row.share]
        cells = [f"{row.seconds:.2f}", f"{row.tokens_per_second:,.0f}"]
        cells += ["" if value is None else f"{value:,.2f}" for value in known]
        lines.append(f"| {row.model} | {row.who} | {row.n} | {row.questions} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(MODELS), help=f"Some of {', '.join(MODELS)}.")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dry", action="store_true", help="Miniatures, on any machine.")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    device = find_device(args.device)
    if device.type == "cpu" and not args.dry:
        sys.exit("this machine has no GPU; --dry runs miniatures")
    speed = bandwidth(device, 2**20 if args.dry else 2**30)
    ns, many = ((1, 2), 2) if args.dry else (NS, MANY)
    rows: list[Row] = []
    for name in args.models:
        began = time.perf_counter()
        made = make(name, device, args.dry)
        print(f"{name}: made in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        for row in _rows(name, made, device, speed, ns, many):
            rows.append(row)
            print(f"{row.who}, N = {row.n}, {row.questions}: {row.seconds:.1f} s", file=sys.stderr)
        del made
        if device.type != "cpu":
            torch.accelerator.empty_cache()
    if args.json:
        print(json.dumps({"bandwidth": speed, "rows": [asdict(row) for row in rows]}))
    else:
        print(markdown(rows, speed))


def _rows(
    name: str, made: Checkpoint, device: torch.device, speed: float, ns: Sequence[int], many: int
) -> Iterator[Row]:
    yield from others(name, made, device, [n for n in ns if n <= 2])
    for questions in (1, many):
        for n in ns:
            for graphs in (True, False) if device.type == "cuda" else (False,):
                yield ours(name, made, n, questions, speed, graphs)


if __name__ == "__main__":
    main()
