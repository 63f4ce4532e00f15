"""The weights of a run: which of them are trained, and the model that is saved at its end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from llava_cot.core.files import write_whole
from llava_cot.core.stages import LLAVA_COT
from llava_cot.errors import DataError
from llava_cot.models.hub import ADAPTER_CONFIG, REWARD_HEAD, hub_name
from llava_cot.models.local.adapters import read_adapter
from llava_cot.models.local.checkpoint import load_checkpoint, quiet
from llava_cot.models.local.reward_head import RewardHead
from llava_cot.models.registry import CheckpointFiles
from llava_cot.models.stage_mark import write_mark
from llava_cot.train.recipe import LoraSettings, TrainRecipe
from llava_cot.train.run_folder import RunFolder

# The names that transformers' architectures have for their image encoder and for what follows it.
_PARTS = {
    "vision": ("vision_model", "vision_tower", "vision_encoder", "visual", "image_tower"),
    "projector": ("multi_modal_projector", "connector", "projector", "merger", "aligner"),
}
_HEAD = "reward_head"
_ANSWERS = {
    "staged": "answers in stages, each between its tags",
    "untagged": "writes the stages without tags (the paper's ablation)",
    "direct": "gives the answer alone (the paper's ablation)",
}


def freeze(model: Any, parts: Sequence[str]) -> None:
    """Exclude parts of a model from training.

    A part is "vision", "projector", or a name in the dotted paths of parameters. Raises DataError if there
    is no such part, or nothing is left to train.
    """
    for part in parts:
        names = _PARTS.get(part, (part,))
        found = False
        for path, parameter in model.named_parameters():
            if set(names) & set(path.split(".")) or any(path.startswith(f"{name}.") for name in names):
                parameter.requires_grad_(False)
                found = True
        if not found:
            raise DataError(f"freeze: {part!r} is no part of this model; name vision, projector or a module")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise DataError("freeze: nothing is left to train; name fewer parts")


def add_head(model: Any, seed: int) -> None:
    """Give a model a scalar head of its own, `reward_head`, which starts with the score 0."""
    torch.manual_seed(seed)
    model.reward_head = RewardHead(model.config.get_text_config().hidden_size)


def add_lora(model: Any, lora: LoraSettings) -> Any:
    """The model with adapters, which alone are trained, with its head if it has one.

    Raises DataError if no layer has such a name.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets or _text_linears(model),
        modules_to_save=[_HEAD] if hasattr(model, _HEAD) else None,
    )
    try:
        return get_peft_model(model, config)
    except ValueError:
        raise DataError(f"lora.targets: no linear layer of this model is called {lora.targets}") from None


def _text_linears(model: Any) -> list[str]:
    """The full names of the text model's linear layers, without its output layer."""
    vision = {*_PARTS["vision"], *_PARTS["projector"], _HEAD}
    output = model.get_output_embeddings()
    return [
        path
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not output and not vision & set(path.split("."))
    ]


def layer_classes(model: Any) -> list[str]:
    """The classes of the layers that FSDP shards one by one."""
    named: set[str] = set()
    for module in model.modules():
        named |= set(getattr(module, "_no_split_modules", None) or ())
    return sorted(named & {type(module).__name__ for module in model.modules()})


def gather(model: Any, keep: bool) -> dict[str, Tensor]:
    """The whole weights of a model on the CPU; empty without `keep`. All processes must call it.

    (On a CPU, accelerate's `get_state_dict` returns shards; accelerate 1.15.)
    """
    whole = {}
    for name, tensor in model.state_dict().items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if keep:
            whole[name] = full.detach().cpu()
    return whole


def save_adapter(
    model: Any,
    base: CheckpointFiles,
    weights: Mapping[str, Tensor],
    folder: RunFolder,
    recipe: TrainRecipe,
    facts: Mapping[str, Any],
) -> None:
    """Save the adapter alone, in peft's layout, with the gathered weights and a model card."""
    with _whole_folder(folder.adapter) as part, quiet():
        model.save_pretrained(str(part), state_dict=weights, safe_serialization=True)
        named = read_adapter(base.adapters[0]).base if base.adapters else recipe.model
        _name_base(part / ADAPTER_CONFIG, named)
        _mark(part, recipe)
        (part / "README.md").write_text(_model_card(recipe, facts, adapter=True), encoding="utf-8")


def _name_base(file: Path, base: str) -> None:
    """Have an adapter's configuration name its base model on the hub, not the model's folder in the cache.

    (Before, peft would look for the model there.)
    """
    on_hub = None if Path(base).expanduser().is_dir() else hub_name(base)
    if on_hub is not None:
        named = {"base_model_name_or_path": on_hub.repo, "revision": on_hub.revision}
        write_whole(file, json.dumps(json.loads(file.read_text(encoding="utf-8")) | named, indent=2) + "\n")


def _mark(folder: Path, recipe: TrainRecipe) -> None:
    if recipe.target == "staged":
        write_mark(folder, LLAVA_COT)


def save_model(
    base: CheckpointFiles,
    weights: Mapping[str, Tensor] | None,
    folder: RunFolder,
    recipe: TrainRecipe,
    facts: Mapping[str, Any],
) -> None:
    """Save an ordinary checkpoint with its processor and a model card, in the data type of the base.

    Args:
        base: The checkpoint that was trained.
        weights: The trained weights; if None, the run's adapter is merged into the base.
        folder: The run's folder. Its `model/` appears when everything is in it.
        facts: The numbers that the card shows, by name.
    """
    head = {k.removeprefix(f"{_HEAD}."): w for k, w in (weights or {}).items() if k.startswith(f"{_HEAD}.")}
    checkpoint = load_checkpoint(base.folder, "cpu", _dtype(base.folder), base.adapters)
    model = checkpoint.model
    if weights is None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(folder.adapter)).merge_and_unload()
    else:
        model.load_state_dict({k: w for k, w in weights.items() if not k.startswith(f"{_HEAD}.")})
    with _whole_folder(folder.model) as part, quiet():
        model.save_pretrained(str(part))
        for how_opened in ("is_local", "local_files_only"):  # transformers saves these, too
            checkpoint.processor.tokenizer.init_kwargs.pop(how_opened, None)
        checkpoint.processor.save_pretrained(str(part))
        if head:
            save_file(head, part / REWARD_HEAD)
        _mark(part, recipe)
        write_card(part, recipe, facts)


def write_card(folder: Path, recipe: TrainRecipe, facts: Mapping[str, Any]) -> None:
    """Write the model card into the folder of a model."""
    write_whole(folder / "README.md", _model_card(recipe, facts))


def _model_card(recipe: TrainRecipe, facts: Mapping[str, Any], adapter: bool = False) -> str:
    head = {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "image-text-to-text",
        "base_model": recipe.model,
        "tags": ["llava-cot", recipe.target if recipe.objective == "sft" else recipe.objective],
    }
    rows = [f"| {name.replace('_', ' ')} | {_card_value(value)} |" for name, value in facts.items()]
    settings = yaml.safe_dump(recipe.model_dump(exclude_defaults=True), sort_keys=False)
    return "\n".join(
        [
            f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
            f"# {Path(recipe.out).name}\n",
            f"{recipe.model}, fine-tuned by `llava-cot train`. It {_purpose(recipe)}.\n",
            "| | |\n| --- | ---: |",
            *rows,
            f"\nThe recipe:\n\n```yaml\n{settings}```\n",
        ]
    )


def _purpose(recipe: TrainRecipe) -> str:
    """What the trained model does, as the end of a sentence."""
    if recipe.objective == "sft":
        return _ANSWERS[recipe.target]
    if recipe.objective == "reward":
        return (
            "is a reward model: a scalar head scores the stages of an answer. Use it as "
            "`--judge reward --judge-model THIS_FOLDER`"
        )
    if recipe.objective == "grpo":
        return (
            f"{_ANSWERS[recipe.target]}, and learned from rules that rewarded its own answers for a right "
            "conclusion and for their stages (GRPO, arXiv 2402.03300)"
        )
    if recipe.objective == "dpo":
        return (
            f"{_ANSWERS[recipe.target]}, and learned to prefer the better of two answers (DPO, beta "
            f"{recipe.dpo_settings.beta:g}, against {recipe.model}). It is also a judge: `--judge implicit "
            f"--judge-model THIS_FOLDER --reference {recipe.model}`"
        )
    settings = recipe.implicit_settings
    return (
        f"is a reward model: {settings.beta:g} x log(this model / {recipe.model}) of an answer is higher for "
        "right ones, and so of the part of an answer that is written so far (arXiv 2412.01981). Use it as "
        f"`--judge implicit --judge-model THIS_FOLDER --reference {recipe.model}`"
    )


def _card_value(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if isinstance(value, float) else value


def _dtype(base: Path) -> str:
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    text = config.get("text_config") or {}
    named = next((c[k] for c in (config, text) for k in ("dtype", "torch_dtype") if c.get(k)), "float32")
    return named if named in ("float32", "bfloat16", "float16") else "float32"


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to write to, which replaces the target if nothing failed."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)
