"""The model that a run ends with: an ordinary checkpoint with its processor and a model card.

Owns merging adapters, the type of the weights that are kept (the base's) and the card. The folder appears
only once all is in it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor
from torch.distributed.tensor import DTensor

from llava_cot.models.local.checkpoint import load_checkpoint, quiet
from llava_cot.train.recipe import Recipe
from llava_cot.train.run_folder import RunFolder


def gathered(model: Any, keep: bool) -> dict[str, Tensor]:
    """A model's weights, whole, on the CPU; empty where they are not to be kept.

    All processes have to take part. (accelerate's own function gives shards back on a CPU, 1.15.)
    """
    whole = {}
    for name, tensor in model.state_dict().items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if keep:
            whole[name] = full.detach().cpu()
    return whole


def save_adapter(model: Any, weights: Mapping[str, Tensor], folder: RunFolder) -> None:
    """The adapter alone, in peft's layout, with the weights that were gathered."""
    part = _fresh(folder.adapter)
    with quiet():
        model.save_pretrained(str(part), state_dict=weights, safe_serialization=True)
    _put(part, folder.adapter)


def save_model(
    base: Path,
    weights: Mapping[str, Tensor] | None,
    folder: RunFolder,
    recipe: Recipe,
    facts: Mapping[str, Any],
) -> None:
    """The base with trained weights, or, without any, with the folder's adapter merged into it."""
    checkpoint = load_checkpoint(base, "cpu", _dtype(base))
    model = checkpoint.model
    if weights is None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(folder.adapter)).merge_and_unload()
    else:
        model.load_state_dict(weights)
    part = _fresh(folder.model)
    with quiet():
        model.save_pretrained(str(part))
        checkpoint.processor.save_pretrained(str(part))
    (part / "README.md").write_text(model_card(recipe, facts), encoding="utf-8")
    _put(part, folder.model)


def model_card(recipe: Recipe, facts: Mapping[str, Any]) -> str:
    """Markdown with the front matter of model hubs."""
    head = {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "base_model": recipe.model,
        "tags": ["llava-cot", recipe.target],
    }
    what = {
        "staged": "answers in stages, each between its tags",
        "untagged": "writes the stages without tags (the paper's ablation)",
        "direct": "gives the answer alone (the paper's ablation)",
    }[recipe.target]
    shown = {name: _card_value(value) for name, value in facts.items()}
    settings = yaml.safe_dump(recipe.model_dump(exclude_defaults=True), sort_keys=False)
    return "\n".join(
        [
            f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
            f"# {Path(recipe.out).name}\n",
            f"{recipe.model}, fine-tuned by `llava-cot train`. It {what}.\n",
            "| | |\n| --- | ---: |",
            *(f"| {name.replace('_', ' ')} | {value} |" for name, value in shown.items()),
            f"\nThe recipe:\n\n```yaml\n{settings}```\n",
        ]
    )


def _card_value(value: float) -> str:
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if isinstance(value, float) else str(value)
    )


def _dtype(base: Path) -> str:
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    text = config.get("text_config") or {}
    named = next((c[k] for c in (config, text) for k in ("dtype", "torch_dtype") if c.get(k)), "float32")
    return named if named in ("float32", "bfloat16", "float16") else "float32"


def _fresh(folder: Path) -> Path:
    part = folder.with_name(f"{folder.name}.part")
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(parents=True)
    return part


def _put(part: Path, folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    part.replace(folder)
