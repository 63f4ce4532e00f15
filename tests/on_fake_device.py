"""What must be the same on an accelerator as on the CPU, run on the make-believe one of `fake_device.py`.

    python tests/on_fake_device.py FOLDER

Checkpoints are made in the folder. Prints an object of JSON: for each check "same", or what differs, and the
steps of decoding by their waits for the device. `SWEEP` chooses types, as in models/test_sweep.py. It is a
process of its own, since the device changes torch.
"""

from __future__ import annotations

# isort: off
import fake_device

from importlib.util import find_spec

if find_spec("torchvision"):
    import vision_extras  # noqa: F401
# isort: on

import asyncio
import json
import math
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import reward_checkpoints
import tiny
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from opening import noise
from quantized import compressed, wide_llava
from searches import NOISY, SEARCHES
from sweep.registry import chosen
from training import record

from llava_cot import ask, open_model
from llava_cot.models.base import Message, Prompt, Sampling
from llava_cot.models.local import model as local
from llava_cot.models.local.checkpoint import load_checkpoint
from llava_cot.models.local.engine import Engine
from llava_cot.models.registry import open_reward
from llava_cot.search.calibration import Calibration
from llava_cot.search.methods import METHODS
from llava_cot.search.resources import Resources
from llava_cot.train.collate import Collator
from llava_cot.train.encode import RowEncoder
from llava_cot.train.trainer import answer_loss

STEPS: Counter[int] = Counter()  # steps of decoding on the device, by their waits
PICTURE = noise(1, 40, 30)


def counting(decode: Callable[..., None]) -> Callable[..., None]:
    """Count the waits of a step of decoding."""

    def counted(engine: Engine, batch: Any) -> None:
        before = fake_device.WAITS.total()
        decode(engine, batch)
        if {device.type for device in engine._network.layout.devices} == {fake_device.DEVICE.type}:
            STEPS[fake_device.WAITS.total() - before] += 1

    return counted


Engine._decode = counting(Engine._decode)  # type: ignore[method-assign]


async def trace(model: Any, method: str, judge: str | None) -> Any:
    found = await ask(
        model,
        PICTURE.pil,
        "How many objects are there?",
        method=method,
        judge=judge,
        n=1 if METHODS[method].single else 2,
        sampling=Sampling(seed=3, temperature=1.0, top_p=0.9, max_tokens=8),
        fmt=NOISY,
        resources=Resources(calibration=None if judge is None else Calibration(judge, -5.0, 1.0)),
    )
    return json.loads(found.model_dump_json())


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Where two traces, or lists of results, differ by more than rounding; times are left out."""
    if isinstance(one, dict):
        for key in one:
            if "seconds" not in key:
                yield from differences(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list) and len(one) == len(other):
        for i, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{path}[{i}]")
    elif isinstance(one, float) and math.isclose(one, other, abs_tol=1e-3, rel_tol=1e-3):
        return
    elif one != other:
        yield f"{path}: {one} and {other}"


def on_both(results: Callable[[str], Any]) -> str:
    """Whether a function of the device gives the same on both."""
    return next(differences(results("cpu"), results("fakegpu")), "same")


def searches(folder: Path, pairs: Sequence[tuple[str, str | None]], **options: Any) -> str:
    """The traces of methods with judges."""

    def traces(device: str) -> Any:
        with closing(open_model(folder, device=device, dtype="float32", **options)) as model:
            return [asyncio.run(trace(model, *pair)) for pair in pairs]

    return on_both(traces)


def sampling(folder: Path, max_tokens: int = 12) -> str:
    """All options of sampling, and scores of options of one token and of several."""
    prompt = Prompt.of("How many?", (PICTURE,))
    options = [
        Sampling(temperature=0, max_tokens=max_tokens),
        Sampling(temperature=1.0, top_k=5, min_p=0.01, max_tokens=max_tokens, seed=1),
        Sampling(temperature=2.0, top_p=1.0, repetition_penalty=1.2, max_tokens=max_tokens, seed=2),
    ]

    async def calls(model: Any) -> Any:
        drawn = await asyncio.gather(*(model.sample(prompt, 3, one) for one in options))
        return [[list(c.tokens) for c in some] for some in drawn], await model.choose(prompt, ("yes", "a b"))

    def results(device: str) -> Any:
        with closing(open_model(folder, device=device, dtype="float32")) as model:
            return list(asyncio.run(calls(model)))

    return on_both(results)


def divided(folder: Path) -> str:
    """A model with a layer on another device, which here is the CPU, as accelerate divides it."""

    def results(device: str) -> Any:
        checkpoint = load_checkpoint(folder, device, "float32")
        if device != "cpu":
            layer = checkpoint.model.model.language_model.layers[1].to("cpu")
            hook = AlignDevicesHook("cpu", io_same_device=True, skip_keys="past_key_values")
            add_hook_to_module(layer, hook)
            checkpoint.model.hf_device_map = {"first": fake_device.DEVICE, "second": "cuda:1"}
        with (
            patch.object(local, "load_checkpoint", lambda *_, **__: checkpoint),
            closing(open_model(folder, device="cpu")) as model,
        ):
            assert len(set(model._engine._network.layout.devices)) == (1 if device == "cpu" else 2)  # type: ignore[attr-defined]
            return [asyncio.run(trace(model, "stage-beam", "logits"))]

    return on_both(results)


def rewards(folder: Path) -> str:
    prompt = Prompt((Message("user", "How many?", (PICTURE,)),))

    async def calls(model: Any) -> list[float]:
        answers = ("three", "there are four of them", "5")
        return [one.value for one in await asyncio.gather(*(model.reward(prompt, a) for a in answers))]

    def results(device: str) -> Any:
        with closing(open_reward(folder, device=device, dtype="float32")) as model:
            return asyncio.run(calls(model))

    return on_both(results)


def training(folder: Path, data: Path) -> str:
    """The losses and the weights of two steps of training on a batch."""

    def results(device: str) -> Any:
        checkpoint = load_checkpoint(folder, device, "float32")
        encoder = RowEncoder(checkpoint, "staged")
        rows = [encoder.row(record(data, number)) for number in range(2)]
        batch = Collator(checkpoint.processor.tokenizer.pad_token_id or 0)([rows])
        model = checkpoint.model.train().requires_grad_(True)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
        losses = []
        keep = batch.pop("logits_to_keep")
        inputs = {name: value.to(device) for name, value in batch.items()}
        labels = inputs.pop("labels")
        for _ in range(2):
            loss = answer_loss(model(**inputs, logits_to_keep=keep, use_cache=False).logits, labels, keep)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
        weights = {name: float(parameter.detach().sum()) for name, parameter in model.named_parameters()}
        return {"losses": losses, "weights": weights}

    return on_both(results)


def main() -> None:
    folder = Path(sys.argv[1])
    made = {kind: tiny.make(kind, folder / kind) for kind in ("mllama", "llava", "qwen3-vl")}
    wide = wide_llava(folder / "wide")
    swept = [one for one in chosen() if not one.missing and not one.refused]
    usual = [("stage-beam", "logits")]
    checks: dict[str, Callable[[], str]] = {
        **{kind: (lambda where=where: searches(where, usual)) for kind, where in made.items()},
        **{one.name: (lambda one=one: sampling(one.save(folder / one.name), 5)) for one in swept},
        "in several files": lambda: sampling(wide),
        "compressed-tensors": lambda: sampling(compressed(wide, folder / "compressed")),
        "divided": lambda: divided(made["llava"]),
        "alone": lambda: searches(made["llava"], usual, share=False),
        "methods": lambda: searches(made["mllama"], SEARCHES),
        "sampling": lambda: sampling(made["qwen3-vl"]),
        "text reward": lambda: rewards(reward_checkpoints.text_reward(folder / "text-reward")),
        "pictured reward": lambda: rewards(reward_checkpoints.pictured_reward(folder / "pictured-reward")),
        "training": lambda: training(made["llava"], folder / "data"),
    }
    results = {}
    for name, check in checks.items():
        try:
            results[name] = check()
        except Exception:
            results[name] = traceback.format_exc()
    mixed = {" ".join(key): count for key, count in fake_device.MIXED.items()}
    waits = {" ".join(key): count for key, count in fake_device.WAITS.items()}
    print(json.dumps({"checks": results, "mixed": mixed, "steps": STEPS, "waits": waits}))


if __name__ == "__main__":
    main()
